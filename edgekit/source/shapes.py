"""The sizes a model is to run at, where its file leaves them open: what the user says, held against the file."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from edgekit.errors import RecipeError, UnsupportedError
from edgekit.source.info import Input

Shapes = Mapping[str, tuple[int, ...]]
OpenShape = tuple[int | None, ...]

_MOST_ELEMENTS = 1 << 30
NO_NUMBERS = ("string", "complex64", "complex128")
_HINTS = {
    "string": "Export the network behind that step: what turns texts into numbers stays in your application.",
    "complex64": "Export it with real and imaginary parts as inputs of their own.",
    "complex128": "Export it with real and imaginary parts as inputs of their own.",
}


def parse(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Read ``NAME=1,3,224,224``, each once; a model's only input may go without its name. Raises RecipeError."""
    found: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, numbers = text.rpartition("=")
        try:
            shape = tuple(int(number) for number in numbers.split(","))
        except ValueError as error:
            raise RecipeError(f"--shape {text}: not NAME=1,3,224,224.", "Write every size, the batch first.") from error
        if name in found:
            raise RecipeError(f"--shape names {name!r} twice.")
        found[name] = shape
    return found


def check(inputs: Sequence[Input], shapes: Shapes, path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes by input name. Raises RecipeError where they are not this model's, or not batch 1."""
    if not inputs:
        return dict(shapes)  # only Keras can tell; it will
    declared = {item.name: item.shape for item in inputs}
    found: dict[str, tuple[int, ...]] = {}
    for given, shape in shapes.items():
        name = inputs[0].name if not given and len(inputs) == 1 else given
        if name not in declared:
            close = difflib.get_close_matches(name, declared, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Its inputs: {', '.join(map(described, inputs))}."
            raise RecipeError(f"{path.name} has no input {name!r} to give a shape to.", hint)
        known = declared[name]
        if known is not None and not _fits(shape, known):
            raise RecipeError(
                f"The shape {_row(shape)} is none of input {name!r} of {path.name}, which takes {_row(known)}.",
                "Write the size of every axis; those the file fixes stay as they are.",
            )
        if any(size < 1 for size in shape) or (shape and (known is None or known[0] is None) and shape[0] != 1):
            raise RecipeError(
                f"The shape {_row(shape)} of input {name!r} must have batch 1 in front and no size below 1."
            )
        found[name] = shape
    return found


def require(inputs: Sequence[Input], shapes: Shapes, path: Path, samples: Mapping[str, tuple[int, ...]]) -> None:
    """Raise RecipeError where a size besides the batch is open, with the option that says it.

    ``samples``: shapes of one sample of the user's own, without the batch, as far as they are known.
    Raises UnsupportedError for inputs that hold no numbers.
    """
    for item in inputs:
        sized = Input(item.name, shapes.get(item.name, item.shape), item.dtype)
        if problem := refusal(sized):
            raise UnsupportedError(f"{path.name}: {problem}.", _HINTS.get(item.dtype, ""))
        if is_open(item) and item.name not in shapes:
            wanted = option(item, samples.get(item.name))
            raise RecipeError(
                f"Input {item.name!r} of {path.name} has no fixed size: {_row(item.shape)}.",
                f"Say at which size it is to run: --shape {wanted}, or shape = {_table(wanted)} under [model].",
            )


def refusal(item: Input) -> str:
    """Say why no target takes such an input, whatever its open sizes; empty where there is no reason."""
    sizes = [size for size in item.shape or () if size is not None]
    if item.dtype in NO_NUMBERS:
        return f"input {item.name!r} takes {item.dtype} values; targets compute with real numbers"
    if 0 in sizes:
        return f"input {item.name!r} has a size of 0: {_row(item.shape)}"
    if math.prod(sizes) > _MOST_ELEMENTS:
        return f"input {item.name!r} has {math.prod(sizes):.1e} elements, more than any target's memory holds"
    return ""


def is_open(item: Input) -> bool:
    """Tell whether a size besides the batch is open."""
    return item.shape is None or None in item.shape[1:]


def option(item: Input, sample: tuple[int, ...] | None = None) -> str:
    """Return what stands behind --shape for this input; ``sample``: the shape of one of the user's, (H, W, C)."""
    shape = item.shape
    if sample is not None:
        turned = (sample[-1], *sample[:-1])
        for known in (sample, turned):
            if shape is None or _fits((1, *known), shape):
                return f"{item.name}={','.join(map(str, (1, *known)))}"
    if shape is None:
        return f"{item.name}=1,SIZE,..."
    return f"{item.name}={','.join(_words(shape))}"


def described(item: Input) -> str:
    return f"{item.name} {_row(item.shape)}"


def _words(shape: OpenShape) -> list[str]:
    """Return sizes, and for open ones a word in their place."""
    words = ["SIZE"] * len(shape)
    if len(shape) == 4:
        words = ["N", "HEIGHT", "WIDTH", "CHANNELS"] if shape[3] in (1, 3, 4) else ["N", "CHANNELS", "HEIGHT", "WIDTH"]
    elif len(shape) == 2:
        words = ["N", "LENGTH"]
    elif len(shape) == 3:
        words = ["N", "LENGTH", "WIDTH"]
    words[:1] = ["1"]
    return [word if size is None else str(size) for word, size in zip(words, shape, strict=True)]


def _fits(shape: Sequence[int], known: OpenShape) -> bool:
    return len(shape) == len(known) and all(b is None or a == b for a, b in zip(shape, known, strict=True))


def _row(shape: Sequence[int | None] | None) -> str:
    if shape is None:
        return "of unknown rank"
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


def _table(wanted: str) -> str:
    name, _, sizes = wanted.rpartition("=")
    key = name if name.replace("_", "").replace("-", "").isalnum() and name.isascii() else f'"{name}"'
    return f"{{{key} = [{sizes.replace(',', ', ')}]}}"
