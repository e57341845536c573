"""Samples and truth: images with COCO boxes, images in class folders, or arrays in .npz files.

Samples are read one at a time, so memory does not grow with their number (an .npz holds its arrays).
"""

from __future__ import annotations

import hashlib
import json
import lzma
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from edgekit.artifact import TensorSpec
from edgekit.as_input import as_input
from edgekit.errors import RecipeError

Array = npt.NDArray[Any]
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
MAX_PIXELS = 64_000_000
# What numpy and zipfile raised for files with random bytes overwritten; RuntimeError covers encrypted members.
_NPZ_DAMAGE = (
    *(OSError, ValueError, EOFError, SyntaxError, RuntimeError, MemoryError, KeyError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError),
)


@dataclass(frozen=True)
class Preprocess:
    """x = (pixel - mean) * scale; ``size`` is (height, width) in pixels."""

    size: tuple[int, int] | None
    color: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def from_json(cls, table: dict[str, Any]) -> Preprocess:
        size = table.get("size")
        return cls(
            size=(int(size[0]), int(size[1])) if size else None,
            color=table["color"],
            mean=tuple(table["mean"]),
            scale=tuple(table["scale"]),
        )

    @property
    def is_identity(self) -> bool:
        return set(self.mean) == {0.0} and set(self.scale) == {1.0}

    def apply(self, pixels: Array) -> Array:
        """pixels: (..., C) or (..., C, H, W) of any numeric type; returns float32, or integers left as they are."""
        if self.is_identity and np.issubdtype(pixels.dtype, np.integer):
            return pixels
        mean, scale = np.array(self.mean, np.float32), np.array(self.scale, np.float32)
        channels = max(mean.size, scale.size)
        if channels > 1 and pixels.ndim >= 3 and pixels.shape[-1] != channels == pixels.shape[-3]:
            mean, scale = mean.reshape(-1, 1, 1), scale.reshape(-1, 1, 1)
        result: Array = (pixels.astype(np.float32) - mean) * scale
        return result


@dataclass(frozen=True)
class Boxes:
    """Truth of one image: ``boxes`` (n, 4) xyxy in pixels, ``classes`` (n,) as indices."""

    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]


class Dataset:
    """Samples by position. ``truth`` is a list of Boxes, an array of class indices, or None."""

    def __init__(
        self, origin: Path, preprocess: Preprocess, files: Sequence[Path] = (), arrays: dict[str, Array] | None = None,
        truth: Any = None, classes: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.origin = origin
        self.preprocess = preprocess
        self.files = list(files)
        self.arrays = arrays or {}
        self.truth = truth
        self.classes = tuple(classes)

    def __len__(self) -> int:
        return len(self.files) if self.files else len(next(iter(self.arrays.values())))

    def inputs(self, index: int, specs: Sequence[TensorSpec]) -> dict[str, Array]:
        """Return sample ``index`` as the model takes it: every input by name, batch 1 in front."""
        if self.files:
            loaded = {specs[0].name: self.preprocess.apply(read_image(self.files[index], self.preprocess))}
        elif len(specs) == 1 and set(self.arrays) != {specs[0].name}:
            loaded = {specs[0].name: self.preprocess.apply(self._only_array()[index])}
        else:
            missing = [spec.name for spec in specs if spec.name not in self.arrays]
            if missing:
                raise RecipeError(f"{self.origin} has no array named {missing[0]!r}, which is an input of the model.")
            loaded = {spec.name: self.preprocess.apply(self.arrays[spec.name][index]) for spec in specs}
        return {spec.name: as_input(loaded[spec.name], spec, self.name(index)) for spec in specs}

    def sample_shapes(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Return the shape of one sample for each input, as far as this set holds it: images are (H, W, C)."""
        if self.files:
            return dict.fromkeys(names[:1], read_image(self.files[0], self.preprocess).shape) if len(names) == 1 else {}
        known = {name: self.arrays[name].shape[1:] for name in names if name in self.arrays}
        if len(names) == 1 and not known and (len(self.arrays) == 1 or "x" in self.arrays):
            known = {names[0]: self._only_array().shape[1:]}
        return known

    def batches(self, specs: Sequence[TensorSpec], limit: int | None = None) -> Iterator[dict[str, Array]]:
        for index in range(min(len(self), limit or len(self))):
            yield self.inputs(index, specs)

    def stacked(self, specs: Sequence[TensorSpec]) -> dict[str, Array]:
        """Return all samples in memory, for training: every input as (N, ...)."""
        first = self.inputs(0, specs)
        found = {name: np.empty((len(self), *array.shape[1:]), array.dtype) for name, array in first.items()}
        for index, sample in enumerate(self.batches(specs)):
            for name, array in sample.items():
                found[name][index] = array[0]
        return found

    def spread(self, count: int) -> Dataset:
        """Return at most ``count`` of the samples, evenly spread over all."""
        if count >= len(self):
            return self
        chosen = np.linspace(0, len(self) - 1, count).round().astype(int)
        truth = self.truth
        if truth is not None:
            truth = [truth[i] for i in chosen] if isinstance(truth, list) else truth[chosen]
        arrays = {name: array[chosen] for name, array in self.arrays.items()}
        files = [self.files[i] for i in chosen] if self.files else ()
        return Dataset(self.origin, self.preprocess, files, arrays, truth, self.classes)

    def name(self, index: int) -> str:
        return self.files[index].name if self.files else f"{self.origin.name}[{index}]"

    def fingerprints(self) -> set[str]:
        """Return a hash of every sample's stored content, to prove two sets disjoint."""
        if self.files:
            return {hashlib.sha256(path.read_bytes()).hexdigest() for path in self.files}
        columns = [np.ascontiguousarray(self.arrays[name]) for name in sorted(self.arrays)]
        return {
            hashlib.sha256(b"".join(column[index].tobytes() for column in columns)).hexdigest()
            for index in range(len(self))
        }

    def check(self) -> None:
        """Decode every image once; raise RecipeError naming those that are broken or of another size."""
        problems = []
        for path in self.files:
            try:
                read_image(path, self.preprocess)
            except RecipeError as error:
                problems.append(error.message)
        for name, array in self.arrays.items():
            if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
                problems.append(f"{self.origin}: array {name!r} holds NaN or infinite values.")
        if problems:
            more = f"\n... and {len(problems) - 5} more" if len(problems) > 5 else ""
            raise RecipeError("\n".join(problems[:5]) + more, "Remove or repair them; edgekit does not skip samples.")

    def _only_array(self) -> Array:
        if len(self.arrays) == 1:
            return next(iter(self.arrays.values()))
        if "x" in self.arrays:
            return self.arrays["x"]
        raise RecipeError(f"{self.origin} holds {sorted(self.arrays)}; expected one array of samples named x.")


def read_image(path: Path, preprocess: Preprocess) -> Array:
    """Return one image as (H, W, C) uint8. Raises RecipeError for a broken, huge or wrongly sized file."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise RecipeError(f"{path} has {width}x{height} pixels, more than edgekit reads.")
            if preprocess.size and (height, width) != preprocess.size:
                expected = f"{preprocess.size[1]}x{preprocess.size[0]}"
                raise RecipeError(
                    f"{path} is {width}x{height}, preprocess.size asks for {expected}.",
                    "Resize your samples the way your application does; edgekit does not guess how.",
                )
            pixels = np.asarray(image.convert("L" if preprocess.color == "gray" else "RGB"))
    except FileNotFoundError as error:
        raise RecipeError(f"{path} does not exist.") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RecipeError(f"{path} is not a readable image: {error}") from error
    if preprocess.color == "gray":
        return pixels[..., np.newaxis]
    return pixels[..., ::-1] if preprocess.color == "bgr" else pixels


def open_dataset(
    kind: str,
    path: Path,
    labels: Path | None,
    preprocess: Preprocess,
    *,
    labelled: bool,
    classes: Sequence[str] = (),
) -> Dataset:
    """Open samples of ``kind`` coco | imagefolder | npz. Raises RecipeError for anything missing or contradictory."""
    return KINDS[kind](path, labels, preprocess, labelled, tuple(classes))


def _coco(path: Path, labels: Path | None, preprocess: Preprocess, labelled: bool, classes: Sequence[str]) -> Dataset:
    if not labelled or labels is None:
        return Dataset(path, preprocess, files=_images(path), classes=classes)
    names, annotated = _annotations(labels)
    if classes and names != tuple(classes):
        raise RecipeError(f"task.classes {list(classes)} are not the categories of {labels}: {list(names)}.")
    files = [path / name for name in annotated]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise RecipeError(f"{labels} names {len(missing)} image(s) that are not in {path}, first {missing[0]!r}.")
    if not files:
        raise RecipeError(f"{labels} names no image.")
    return Dataset(path, preprocess, files=files, truth=list(annotated.values()), classes=names)


def _annotations(labels: Path) -> tuple[tuple[str, ...], dict[str, Boxes]]:
    """Return the categories' names by id, and every image's boxes by file name, both in order."""
    document = _read_json(labels)
    try:
        categories = sorted(document["categories"], key=lambda category: category["id"])
        position = {category["id"]: index for index, category in enumerate(categories)}
        names = {image["id"]: str(image["file_name"]) for image in document["images"]}
        boxes: dict[Any, list[tuple[list[float], int]]] = {identity: [] for identity in names}
        for annotation in document["annotations"]:
            x, y, width, height = map(float, annotation["bbox"])
            if not (np.isfinite([x, y, width, height]).all() and width >= 0 and height >= 0):
                raise ValueError(f"bbox {annotation['bbox']} of image {annotation['image_id']!r}")
            entry = ([x, y, x + width, y + height], position[annotation["category_id"]])
            boxes[annotation["image_id"]].append(entry)
        if not len(names) == len(set(names.values())) == len(document["images"]):
            raise ValueError("two images of one id or one file name")
        if len(position) != len(categories):
            raise ValueError("two categories of one id")
        found = {names[identity]: _boxes(boxes[identity]) for identity in sorted(names, key=names.__getitem__)}
        return tuple(str(category["name"]) for category in categories), found
    except (KeyError, TypeError, ValueError) as error:
        raise RecipeError(f"{labels} is not a COCO annotation file: {error!r}") from error


def _imagefolder(
    path: Path, labels: Path | None, preprocess: Preprocess, labelled: bool, classes: Sequence[str]
) -> Dataset:
    if not labelled:
        return Dataset(path, preprocess, files=_images(path), classes=classes)
    if not _existing(path).is_dir():
        raise RecipeError(f"{path} is not a folder of class folders.")
    folders = sorted(item for item in path.iterdir() if item.is_dir())
    names = tuple(classes) or tuple(folder.name for folder in folders)
    unknown = [folder.name for folder in folders if folder.name not in names]
    if unknown:
        raise RecipeError(f"{path / unknown[0]} is not one of task.classes.")
    files, truth = [], []
    for folder in folders:
        images = _images(folder)
        files += images
        truth += [names.index(folder.name)] * len(images)
    if not files:
        raise RecipeError(f"{path} holds no class folder with images.")
    return Dataset(path, preprocess, files=files, truth=np.array(truth), classes=names)


def _npz(path: Path, labels: Path | None, preprocess: Preprocess, labelled: bool, classes: Sequence[str]) -> Dataset:
    if not zipfile.is_zipfile(_existing(path)):
        raise RecipeError(f"{path} is not an .npz file.", "Write it with numpy.savez(path, x=samples, y=labels).")
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays: dict[str, Array] = {name: stored[name] for name in stored.files}
    except _NPZ_DAMAGE as error:
        raise RecipeError(f"{path} is not a readable .npz file of plain arrays: {error}") from error
    odd = sorted(name for name, array in arrays.items() if not array.ndim or array.dtype.kind not in "biuf")
    if odd:
        raise RecipeError(f"{path}: the array {odd[0]!r} does not hold one number or row of numbers per sample.")
    truth = arrays.pop("y", None)
    lengths = {len(array) for array in (*arrays.values(), *([] if truth is None else [truth]))}
    if len(lengths) != 1 or 0 in lengths or not arrays:
        raise RecipeError(f"{path} must hold arrays with one row per sample; found {len(arrays)} of lengths {lengths}.")
    return Dataset(path, preprocess, arrays=arrays, truth=truth, classes=classes)


KINDS = {"coco": _coco, "imagefolder": _imagefolder, "npz": _npz}


def _boxes(entries: list[tuple[list[float], int]]) -> Boxes:
    return Boxes(
        boxes=np.array([box for box, _ in entries], np.float32).reshape(-1, 4),
        classes=np.array([index for _, index in entries], np.int64),
    )


def _existing(path: Path) -> Path:
    if not path.exists():
        raise RecipeError(f"There is no {path}, which the recipe's [data] names.")
    return path


def _images(folder: Path) -> list[Path]:
    if not _existing(folder).is_dir():
        raise RecipeError(f"{folder} is not a folder of images.")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise RecipeError(f"{folder} holds no image.", f"Readable: {', '.join(sorted(IMAGE_SUFFIXES))}")
    return files


def _read_json(path: Path) -> Any:
    try:
        return json.loads(_existing(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path} is not a readable JSON file: {error}") from error
