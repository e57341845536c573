"""Write the first recipe of a model: what could be told from the file, what was guessed and why, what is missing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import RecipeError, UnsupportedError
from edgekit.inspection import Inspection
from edgekit.inspection.network import Tensor
from edgekit.inspection.refusals import FORMAT_REASONS

FIRST_TARGETS = ("raspberry-pi-4", "jetson-orin-nano", "pixel-8", "browser")
_DATA = "data"
_UNIT = {"detection": "points of mAP@[.5:.95]", "classification": "points of top-1", "generic": "points of agreement"}
_SCALED_INSIDE = {"Rescaling", "Normalization"}
_IMAGENET = (
    "# mean = [123.675, 116.28, 103.53]      # ... or this, where it was trained as torchvision's models are",
    "# scale = [0.01712475, 0.017507, 0.01742919]",
)


@dataclass(frozen=True)
class Data:
    """Where the samples lie, relative to the recipe. ``found``: all of it is there already."""

    kind: str
    test: str
    calibration: str
    train: str
    found: bool


@dataclass(frozen=True)
class Draft:
    """A recipe's text. ``assumed``: what could not be told from the model; ``fill_in``: what is not there yet."""

    text: str
    assumed: tuple[str, ...]
    fill_in: tuple[str, ...]


def draft(
    found: Inspection, recipe: Path, targets: Sequence[str], signature: str = "", custom: Path | None = None
) -> Draft:
    """Return the recipe to write to ``recipe``; ``targets``: those the user named, or none.

    Raises UnsupportedError where no target takes the model: no recipe would build it.
    """
    takers = list(dict.fromkeys(answer.target for answer in found.targets if answer.takes))
    names = list(targets) or [name for name in FIRST_TARGETS if name in takers] or takers
    if not takers:
        reasons = [line for answer in found.targets for line in answer.refused]
        first = min(reasons, key=lambda line: line in FORMAT_REASONS, default="no target was named")
        raise UnsupportedError(f"No target takes {found.source.path}: {first}.", "edgekit inspect says more.")
    image = _image(found)
    data = _data(found, image, recipe.parent)
    assumed = [*found.task.check, *([_scale_note(found)] if image else [])]
    sections = (
        ["schema = 1"],
        _model(found, recipe, signature, custom),
        _task(found, image),
        _data_table(data),
        _preprocess(found, image),
        _budget(found),
        _stages(found),
        ["[targets]", f"names = {_list(names)}  # more: edgekit targets"],
    )
    text = "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"
    missing = () if data.found else (f"[data] in {recipe.name}: the paths of your samples",)
    return Draft(text, tuple(filter(None, assumed)), missing)


def write(made: Draft, path: Path, *, force: bool) -> None:
    """Write the recipe. Raises RecipeError where there is a file already, unless ``force``."""
    if path.exists() and not force:
        raise RecipeError(f"{path} exists already.", "Name another one with -o FILE, or replace it with --force.")
    try:
        path.write_text(made.text, encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"Cannot write {path}: {error.strerror or error}.", "Name another file: -o FILE") from error


def _image(found: Inspection) -> Tensor | None:
    """Return the model's only input where it is an image of one or three channels and a known size."""
    if len(found.network.inputs) != 1:
        return None
    tensor = found.network.inputs[0]
    shape = tensor.shape or ()
    known = len(shape) == 4 and None not in shape[1:]
    return tensor if known and shape[1 if tensor.layout == "NCHW" else 3] in (1, 3) else None


def _size(image: Tensor) -> tuple[int, int, int]:
    """Return height, width and channels."""
    sizes = [size or 0 for size in image.shape or ()]
    return (sizes[2], sizes[3], sizes[1]) if image.layout == "NCHW" else (sizes[1], sizes[2], sizes[3])


def _model(found: Inspection, recipe: Path, signature: str, custom: Path | None) -> list[str]:
    folder = recipe.parent.resolve()
    shown = _relative(found.source.path, folder)
    inputs = ", ".join(f"{t.name} {t.shape_text} {t.dtype} {t.layout}".strip() for t in found.network.inputs)
    lines = ["[model]", f"path = {_quoted(shown)}", *_comment(f"inputs: {inputs}")]
    if custom:
        lines.append(f"custom = {_quoted(_relative(custom, folder))}  # edgekit runs it")
    if found.shapes:
        sizes = ", ".join(f"{_quoted(name)} = {list(shape)}" for name, shape in found.shapes.items())
        lines.append(f"shape = {{ {sizes} }}")
    return lines + ([f"signature = {_quoted(signature)}"] if signature else [])


def _relative(path: Path, folder: Path) -> str:
    path = path.resolve()
    return os.path.relpath(path, folder) if path.is_relative_to(folder) else str(path)


def _task(found: Inspection, image: Tensor | None) -> list[str]:
    task = found.task
    lines = ["[task]", f"kind = {_quoted(task.kind)}  # detection | classification | generic"]
    lines += _comment(f"guessed: {task.why}")
    lines += [f"{key} = {_value(value)}" for key, value in task.settings.items()]
    if image is not None and task.settings.get("box_scale") == "relative":
        lines.append(f"image_size = {list(_size(image)[:2])}")
    if image is not None and task.settings.get("decoder") == "heatmap":
        heat = next(t for t in found.network.outputs if t.name == task.settings["scores_output"])
        rows = (heat.shape or (1, 1))[1] or 1
        lines += [f"stride = {max(1, _size(image)[0] // rows)}", 'size_unit = "pixels"  # or "places" of the map']
    for check in task.check:
        lines += _comment(f"check: {check}")
    if task.kind != "generic":
        count = f"{task.classes} names" if task.classes else "names"
        lines.append(f'# classes = ["...", "..."]  # {count}, in the order of the network')
    return lines


def _data(found: Inspection, image: Tensor | None, folder: Path) -> Data:
    """Return the samples that lie beside the recipe, or else where they are to be put."""
    kinds = {"detection": "coco", "classification": "imagefolder" if image is not None else "npz", "generic": "npz"}
    if found.task.kind != "detection" and all((folder / _DATA / f"{part}.npz").is_file() for part in _NEEDED):
        kind = "npz"
    else:
        kind = kinds[found.task.kind]
    ending = ".npz" if kind == "npz" else ""
    place = folder / _DATA
    labelled = kind != "coco" or (place / "test.json").is_file()
    there = labelled and all((place / f"{part}{ending}").exists() for part in _NEEDED)
    has_train = (place / f"train{ending}").exists() and (kind != "coco" or (place / "train.json").is_file())
    test, calibration, train = (f"{_DATA}/{part}{ending}" for part in (*_NEEDED, "train"))
    return Data(kind, test, calibration, train if has_train else "", there)


_NEEDED = ("test", "calibration")
_LAYOUTS = {
    "coco": "folders of images, and annotations in COCO's JSON",
    "imagefolder": "folders with one folder of images for each class",
    "npz": "arrays: x, or one named after each input, with samples in front; y: the class numbers",
}


def _data_table(data: Data) -> list[str]:
    note = "found beside this file" if data.found else "FILL IN: these are not there yet"
    lines = ["[data]", f"kind = {_quoted(data.kind)}  # {_LAYOUTS[data.kind]}", *_comment(note)]
    lines.append(f"test = {_quoted(data.test)}  # labelled; every figure is scored on these")
    if data.kind == "coco":
        lines.append(f'test_labels = "{_DATA}/test.json"')
    lines.append(f"calibration = {_quoted(data.calibration)}  # unlabelled, none of them in test; 100 are enough")
    mark = "" if data.train else "# "
    train = data.train or data.test.replace("test", "train")
    lines.append(f"{mark}train = {_quoted(train)}  # labelled, none of them in test; pruning recovers on them")
    if data.kind == "coco":
        lines.append(f'{mark}train_labels = "{_DATA}/train.json"')
    return lines


def _preprocess(found: Inspection, image: Tensor | None) -> list[str]:
    if image is None:
        return [*_comment("[preprocess]: samples go into the model as they are; mean and scale would change them")]
    height, width, channels = _size(image)
    lines = [
        "[preprocess]  # x = (pixel - mean) * scale",
        f"size = [{height}, {width}]  # height, width; samples must have it",
        f'color = "{"gray" if channels == 1 else "rgb"}"' + ("  # or bgr, as OpenCV loads" if channels == 3 else ""),
    ]
    if _scaled_inside(found):
        return [*lines, *_comment("the model scales its pixels itself")]
    if image.dtype == "uint8":
        return [*lines, *_comment("the model takes pixels as they are")]
    if image.dtype == "int8":
        return [*lines, "mean = [128.0]  # assumed: pixels from 0 to 255 become -128 to 127", "scale = [1.0]"]
    lines += ["mean = [0.0]  # assumed, with scale: pixels from 0 to 1", f"scale = [{1 / 255!r}]"]
    return lines + list(_IMAGENET if channels == 3 else ())


def _scaled_inside(found: Inspection) -> bool:
    """Tell whether the first layers scale what comes in."""
    return bool(_SCALED_INSIDE & {op.kind for op in found.network.ops[:2]})


def _scale_note(found: Inspection) -> str:
    dtype = found.network.inputs[0].dtype
    if _scaled_inside(found) or dtype == "uint8":
        return ""
    if dtype == "int8":
        return "[preprocess]: 128 is taken from pixels; a wrong scale ruins every figure, so use that of the training"
    return "[preprocess]: pixels are divided by 255; a wrong scale ruins every figure, so use that of the training"


def _budget(found: Inspection) -> list[str]:
    return [
        "[budget]",
        f"accuracy_drop = 1.0  # {_UNIT[found.task.kind]} against the float model",
        "# latency_ms = 20.0   # p50 on the target's device; also model_mb, memory_mb, speedup",
    ]


def _stages(found: Inspection) -> list[str]:
    lines = ["# Every other key has a default: edgekit schema recipe"]
    if found.source.format in ("keras", "h5", "onnx") and not found.network.quantized:
        lines += ["# [prune]", "# enabled = true", "# keep_macs = 0.5  # of the multiply-accumulates; else found"]
    if not found.network.quantized:
        lines += ["# [quantize]", "# search_seconds = 120.0  # for each search of a mixed plan"]
    return lines


def _comment(text: str) -> list[str]:
    """Return comment lines of at most 100 characters, with nothing in them that TOML forbids."""
    words = "".join(letter if letter.isprintable() else "?" for letter in text).split()
    lines, line = [], "#"
    for word in words:
        if len(line) + len(word) > 98 and line != "#":
            lines.append(line)
            line = "#  "
        line += f" {word}"
    return [*lines, line]


def _value(value: str | bool | float) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    """Return a TOML string: JSON's, but for DEL, which JSON leaves as it is."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(names: Iterable[str]) -> str:
    return f"[{', '.join(map(_quoted, names))}]"
