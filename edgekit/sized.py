"""A model with the sizes it is to run at: a recipe's, or a copy of a file to look at and to time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekit import source, worker
from edgekit.dataset import Dataset
from edgekit.progress import Progress
from edgekit.recipe import Recipe
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


def with_shapes(wanted: Recipe, info: source.SourceInfo, samples: Dataset) -> Recipe:
    """Return the recipe with a shape for every input that needs one. Raises RecipeError, saying the option."""
    given = shapes.check(info.inputs, wanted.model.shape, info.path)
    shapes.require(info.inputs, given, info.path, samples.sample_shapes([item.name for item in info.inputs]))
    return wanted.model_copy(update={"model": wanted.model.model_copy(update={"shape": given})})
