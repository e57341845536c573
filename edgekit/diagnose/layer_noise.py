"""How far each layer of an int8 file is from its float model: a diagnosis without its search for causes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.convert.tflite_sparse import dense_file
from edgekit.diagnose.compare_layers import compare, layers_of
from edgekit.diagnose.execute import open_runner
from edgekit.diagnose.quantized_file import read_quantized
from edgekit.diagnose.samples import Samples
from edgekit.progress import Progress


def run(
    *, out: Path, progress: Progress, float_model: Path, artifact: Path, format: str, dataset: dict[str, Any],
    samples: int,
) -> dict[str, Any]:  # fmt: skip
    """Return {"layers": fields of ``Layer`` in execution order} over at most ``samples``, spread evenly over all.

    Raises RecipeError where the samples do not fit the model, StageError where one of the files does not run.
    """
    if format == "tflite":
        float_model, artifact = dense_file(float_model, out), dense_file(artifact, out)
    graph, file = read_quantized(float_model, format).graph, read_quantized(artifact, format)
    data = Samples(dataset, open_runner(float_model, format), samples, labelled=False)
    found = compare(graph, float_model, file, artifact, format, data, len(data), progress, runs=True)
    return {"layers": [layer.model_dump() for layer in layers_of(found)]}
