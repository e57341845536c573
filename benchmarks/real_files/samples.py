"""Real samples for models that came without any: photographs, lines of text, the machine's own files.

Each function returns the arrays of ``.npz`` files. Test shares no part of a photograph,
no word and no file. All are deterministic but ``files_on_disk``, which takes what this Python's installation holds.
"""

from __future__ import annotations

import json
import pydoc_data.topics
import sysconfig
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont
from skimage import data as skimage_data
from sklearn.datasets import load_sample_images  # type: ignore[import-untyped]

from benchmarks.real_files import packages

Array = npt.NDArray[Any]
Parts = dict[str, dict[str, Array]]

COUNTS = {"test": 120, "calibration": 128}
_TRAIN = 1500
_PHOTOS = ("astronaut", "chelsea", "coffee", "rocket", "immunohistochemistry", "retina", "hubble_deep_field")
_LEFT = 0.7  # of every photograph is for calibration and training, the rest for test


def photographs(size: int, gray: bool = False, train: bool = False) -> dict[str, Array]:
    """Return (n, size, size, 3 or 1) uint8 crops of photographs for each part; ``train``: for that one, too."""
    rng = np.random.default_rng(0)
    photos = [getattr(skimage_data, name)() for name in _PHOTOS] + list(load_sample_images().images)
    found = {}
    for part, count in (COUNTS | ({"train": _TRAIN} if train else {})).items():
        crops = [_crop(photos[i % len(photos)], part, size, rng) for i in range(count)]
        found[part] = np.stack([np.asarray(crop.convert("L") if gray else crop) for crop in crops])
        if gray:
            found[part] = found[part][..., None]
    return found


def _crop(photo: Array, part: str, size: int, rng: np.random.Generator) -> Image.Image:
    cut = int(photo.shape[1] * _LEFT)
    pixels = photo[:, cut:] if part == "test" else photo[:, :cut]
    side = int(rng.integers(min(pixels.shape[:2]) // 3, min(pixels.shape[:2]) + 1))
    top, left = (int(rng.integers(length - side + 1)) for length in pixels.shape[:2])
    crop = Image.fromarray(pixels[top : top + side, left : left + side]).convert("RGB")
    return crop.resize((size, size), Image.Resampling.BILINEAR)


def scaled(pixels: dict[str, Array], mean: float, scale: float) -> Parts:
    """Return x = (pixel - mean) * scale."""
    return {part: {"x": (array.astype(np.float32) - mean) * np.float32(scale)} for part, array in pixels.items()}


def standardized(pixels: dict[str, Array]) -> Parts:
    """Return every image with mean 0 and deviation 1."""
    parts = {}
    for part, array in pixels.items():
        wide = array.astype(np.float32)
        axes = tuple(range(1, wide.ndim))
        parts[part] = {"x": (wide - wide.mean(axes, keepdims=True)) / (wide.std(axes, keepdims=True) + 1e-6)}
    return parts


def text_lines(width: int) -> dict[str, list[tuple[Array, str]]]:
    """Return lines of text on photographs, (48, at most ``width``, 3) uint8, each with its text."""
    rng, backgrounds = np.random.default_rng(1), photographs(320)
    words = sorted({word for text in pydoc_data.topics.topics.values() for word in text.split() if word.isalnum()})
    own = {"test": words[0::2], "calibration": words[1::2]}
    return {part: [_line(own[part], width, backgrounds[part][i], rng) for i in range(COUNTS[part])] for part in own}


def _line(words: list[str], width: int, background: Array, rng: np.random.Generator) -> tuple[Array, str]:
    font = ImageFont.load_default(int(rng.integers(26, 37)))
    fitting = [word for word in words if font.getlength(word) <= width - 12]
    text = fitting[int(rng.integers(len(fitting)))]
    while rng.random() < 0.6:
        longer = f"{text} {words[int(rng.integers(len(words)))]}"
        text = longer if font.getlength(longer) <= width - 12 else text
    used = int(font.getlength(text)) + 12
    top, left = (int(rng.integers(320 - length + 1)) for length in (48, used))
    strip = Image.fromarray(background[top : top + 48, left : left + used])
    ink = rng.integers(0, 50, 3) if np.asarray(strip).mean() > 127 else rng.integers(205, 256, 3)
    ImageDraw.Draw(strip).text((6, 24), text, fill=tuple(int(c) for c in ink), font=font, anchor="lm")
    return np.asarray(strip), text


def pages(size: int) -> dict[str, Array]:
    """Return (n, size, size, 3) uint8 photographs with some lines of text on them."""
    found, lines, rng = photographs(size), text_lines(size), np.random.default_rng(2)
    for part, images in found.items():
        for image in images:
            for row in range(int(rng.integers(1, 5))):
                line, _ = lines[part][int(rng.integers(len(lines[part])))]
                top, left = 12 + row * 72, int(rng.integers(size - line.shape[1] + 1))
                image[top : top + 48, left : left + line.shape[1]] = line
    return found


def first_channels(parts: Parts) -> Parts:
    """Return images as NCHW."""
    return {part: {name: np.moveaxis(array, -1, 1) for name, array in arrays.items()} for part, arrays in parts.items()}


def upside_down(width: int) -> Parts:
    """Return lines of text as (n, 3, 48, width) in -1..1, every other one turned by 180 degrees; y: 1 for those."""
    parts = {}
    for part, lines in text_lines(width).items():
        turned = np.arange(len(lines)) % 2
        images = [image[::-1, ::-1] if turn else image for (image, _), turn in zip(lines, turned, strict=True)]
        parts[part] = {"x": _padded(images, width), "y": turned}
    return parts


def read_lines(width: int, alphabet: str) -> Parts:
    """Return lines of text as (n, 3, 48, width) in -1..1; y: (n, 40) numbers of letters in ``alphabet``, then 0."""
    numbers = {letter: i + 1 for i, letter in enumerate([*alphabet.splitlines(), " "])}
    parts = {}
    for part, lines in text_lines(width).items():
        y = np.zeros((len(lines), 40), np.int64)
        for row, (_, text) in zip(y, lines, strict=True):
            row[: len(text)] = [numbers[letter] for letter in text]
        parts[part] = {"x": _padded([image for image, _ in lines], width), "y": y}
    return parts


def _padded(images: list[Array], width: int) -> Array:
    """Return (n, 3, 48, width) in -1..1, with 0 to the right of what is narrower."""
    found = np.zeros((len(images), 3, 48, width), np.float32)
    for row, image in zip(found, images, strict=True):
        row[:, :, : image.shape[1]] = np.moveaxis(image, -1, 0) / 127.5 - 1
    return found


def tokens(length: int, vocabulary: int) -> Parts:
    """Return token numbers of texts that mean nothing, of 5 to ``length`` tokens, as a BERT takes them."""
    rng = np.random.default_rng(3)
    parts: Parts = {}
    for part, count in COUNTS.items():
        mask = (np.arange(length) < rng.integers(5, length + 1, (count, 1))).astype(np.int64)
        ids = rng.integers(1000, vocabulary, (count, length)) * mask
        parts[part] = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(mask)}
    return parts


_KINDS = {
    ".py": "python", ".c": "c", ".json": "json", ".png": "png", ".html": "html", ".css": "css", ".js": "javascript",
    ".md": "markdown", ".rst": "rst", ".toml": "toml", ".xml": "xml", ".svg": "svg", ".so": "elf", ".gz": "gzip",
    ".jpg": "jpeg", ".pdf": "pdf", ".ttf": "ttf", ".csv": "csv", ".sh": "shell", ".pyc": "pythonbytecode",
    ".npy": "npy", ".zip": "zip", ".wav": "wav", ".gif": "gif", ".pyx": "cython",
}  # fmt: skip


def files_on_disk(folder: Path) -> Parts:
    """Return what magika reads of files on this disk, (n, 2048) int32; y: their kind, as their names tell it."""
    config = json.loads(packages.member(folder, "magika-*.whl", "*/standard_v3_3/config.min.json"))
    labels = config["target_labels_space"]
    found: dict[str, list[Path]] = {kind: [] for kind in _KINDS.values() if kind in labels}
    roots = [Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("stdlib")), Path("/usr/share")]
    for path in (path for root in roots for path in sorted(root.rglob("*"))):
        kind = _KINDS.get(path.suffix, "")
        if kind in found and path.is_file() and not path.is_symlink() and path.stat().st_size >= 64:
            found[kind].append(path)
    rng = np.random.default_rng(4)
    rows: dict[bytes, tuple[Array, int]] = {}
    for kind, paths in found.items():
        for i in rng.permutation(len(paths))[:16]:
            row = _features(paths[i], config)
            rows[row.tobytes()] = row, labels.index(kind)
    parts: Parts = {}
    every = [list(rows.values())[i] for i in rng.permutation(len(rows))]
    for part, chosen in (("test", every[0::2]), ("calibration", every[1::2])):
        parts[part] = {"x": np.stack([row for row, _ in chosen]), "y": np.array([label for _, label in chosen])}
    return parts


def _features(path: Path, config: dict[str, Any]) -> Array:
    block, size = config["block_size"], config["beg_size"]
    content = path.read_bytes()
    first, last = content[:block].lstrip()[:size], content[-block:].rstrip()[-size:]
    row = np.full(2 * size, config["padding_token"], np.int32)
    row[: len(first)] = list(first)
    if last:
        row[-len(last) :] = list(last)
    return row


def as_int8(parts: Parts, scale: float, zero_point: int) -> Parts:
    """Return samples as the int8 input of a quantized model takes them."""

    def rounded(array: Array) -> Array:
        return np.clip(np.round(array / scale) + zero_point, -128, 127).astype(np.int8)

    return {part: {"x": rounded(arrays["x"])} for part, arrays in parts.items()}
