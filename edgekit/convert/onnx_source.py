"""The convert stage for a user's ONNX file, which needs no TensorFlow: importing that takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.artifact import TensorSpec
from edgekit.convert.finish import reference_of
from edgekit.convert.hand_off import check_parity, parity_inputs, save
from edgekit.convert.onnx_file import from_onnx, state_outputs
from edgekit.progress import Progress
from edgekit.runtimes import open_model


def run(
    *, out: Path, progress: Progress, model: Path, dataset: dict[str, Any], samples: int, as_is: bool = False
) -> dict[str, Any]:
    """Take a user's ONNX file as the float model: write ``model.onnx`` with batch 1, checked against the source.

    ``as_is``: it is quantized already, so nothing is simplified or fused in it.
    """
    progress(0.1, "reading the ONNX file")
    (out / "model.onnx").write_bytes(from_onnx(model, as_is=as_is))
    session = open_model(out / "model.onnx", "onnx")
    state_outputs(out / "model.onnx", {each["name"]: each["shape"] for each in session.outputs})
    specs = tuple(TensorSpec(i["name"], tuple(i["shape"]), i["dtype"]) for i in session.inputs)
    inputs = parity_inputs(dataset, specs, samples)
    outputs = reference_of(model, "onnx", inputs)  # the untouched source, in its runtime
    save(out, inputs, outputs)
    error = check_parity(out / "model.onnx", "onnx", inputs, outputs, 1e-4, "batch-1 ONNX")
    return {"warnings": [], "parameters": None, "parity_error": error}


def simplify(*, out: Path, progress: Progress, model: Path) -> dict[str, Any]:
    """Write ``model.onnx`` as ``run`` would, to look at alone."""
    progress(0.1, "reading the ONNX file")
    (out / "model.onnx").write_bytes(from_onnx(model))
    return {}
