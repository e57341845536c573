"""A model with the sizes it is to run at: a recipe's, or a copy of a file to look at and to time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from edgekit import installed, source, worker
from edgekit.dataset import Dataset
from edgekit.progress import Progress
from edgekit.recipe import Recipe
from edgekit.source import shapes
from edgekit.source.shapes import Shapes
from edgekit.steps import BOUND_BY, BOUND_FILES, PYTORCH_STEP


@contextmanager
def sized(
    model: Path, format: str, given: Shapes, progress: Progress, signature: str = "", custom: Path | None = None
) -> Iterator[Path]:
    """Yield a copy of the model with these shapes, gone afterwards; the model itself where there are none.

    A PyTorch program is yielded as the ONNX file that it becomes.
    """
    with ExitStack() as stack:
        if format == "pt2":
            installed.require_pytorch(model)
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-")))
            worker.run(PYTORCH_STEP[0], {"model": model.resolve()}, folder, progress, label="PyTorch to ONNX")
            model, format = folder / "model.onnx", "onnx"
        if given:
            function, _ = BOUND_BY[format]
            arguments: dict[str, Any] = {"model": model.resolve(), "shapes": {key: list(s) for key, s in given.items()}}
            if format == "saved_model":
                arguments["signature"] = signature
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edgekit-")))
            worker.run(function, arguments, folder, progress, label="shape", custom=custom)
            model = folder / BOUND_FILES.get(format, "model.keras")
        yield model


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
