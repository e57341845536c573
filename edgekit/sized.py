"""A model file with the sizes it is to run at, outside of any build: for looking at it, and for timing it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekit import source, worker
from edgekit.progress import Progress
from edgekit.source import shapes
from edgekit.source.shapes import Shapes
from edgekit.steps import BOUND_BY, BOUND_FILES


@contextmanager
def sized(
    model: Path, format: str, given: Shapes, progress: Progress, signature: str = "", custom: Path | None = None
) -> Iterator[Path]:
    """Yield a copy of the model with these shapes, gone afterwards; the model itself where there are none."""
    if not given:
        yield model
        return
    function, _ = BOUND_BY[format]
    arguments: dict[str, Any] = {"model": model.resolve(), "shapes": {name: list(s) for name, s in given.items()}}
    if format == "saved_model":
        arguments["signature"] = signature
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        worker.run(function, arguments, Path(folder), progress, label="shape", custom=custom)
        yield Path(folder, BOUND_FILES.get(format, "model.keras"))


def required(artifact: Path, texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return the shapes that ``NAME=1,3,224,224`` give this .onnx or .tflite file.

    Raises RecipeError where they are not its own, or where it leaves a size open that none of them says.
    """
    inputs = source.inputs(artifact)
    given = shapes.check(inputs, shapes.parse(texts), artifact)
    shapes.require(inputs, given, artifact, {})
    return given
