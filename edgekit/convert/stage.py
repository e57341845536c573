"""The convert stage: one float hand-off per model, then the files that targets run."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgekit import arrays, keras_io
from edgekit.artifact import TensorSpec
from edgekit.convert import float_graph
from edgekit.convert.hand_off import check_parity, parity_inputs, save
from edgekit.progress import Progress

Arrays = dict[str, npt.NDArray[Any]]

SAVED_MODEL = "saved_model"


def float_model(
    *, out: Path, progress: Progress, model: Path, source: str, dataset: dict[str, Any], samples: int,
    signature: str = "",
) -> dict[str, Any]:  # fmt: skip
    """Write ``saved_model/`` with batch 1, and what the source computes on the first calibration samples.

    ``inputs.npz`` and ``reference.npz`` hold (N, ...) per name, ``first.npz`` the first input with batch 1.
    """
    progress(0.1, "loading the model")
    warnings: list[str] = []
    parameters = None
    if source == "saved_model":
        float_graph.resign(model, out / SAVED_MODEL, signature)
        specs = _saved_model_specs(out / SAVED_MODEL)
        inputs = parity_inputs(dataset, specs, samples)
        outputs = float_graph.saved_model_reference(out / SAVED_MODEL, inputs)
    else:
        network = keras_io.load(model)
        parameters = int(network.count_params())
        warnings = float_graph.warnings_of(network)
        progress(0.4, "exporting the float graph")
        float_graph.export_keras(network, out / SAVED_MODEL)
        names = float_graph.input_names(network)
        specs = tuple(
            TensorSpec(name, (1, *map(int, tensor.shape[1:])), str(tensor.dtype))
            for name, tensor in zip(names, network.inputs, strict=True)
        )
        inputs = parity_inputs(dataset, specs, samples)
        outputs = float_graph.reference(network, inputs)
    save(out, inputs, outputs)
    return {"warnings": warnings, "parameters": parameters}


def float_artifact(
    *, out: Path, progress: Progress, saved_model: Path, reference: Path, inputs: Path, format: str, precision: str,
    tolerance: float,
) -> dict[str, Any]:  # fmt: skip
    """Convert the SavedModel to ``model.tflite`` or ``model.onnx`` and compare it with the source's outputs.

    Raises StageError beyond ``tolerance`` (relative to each output's largest magnitude) for float32.
    """
    progress(0.2, f"converting to {format}")
    path = out / f"model.{format}"
    path.write_bytes(getattr(import_module(_CONVERTERS[format]), precision)(saved_model))
    progress(0.8, "comparing with the source")
    limit = tolerance if precision == "float32" else _FLOAT16_TOLERANCE
    name = f"{precision} {format}"
    return {"parity_error": check_parity(path, format, arrays.load(inputs), arrays.load(reference), limit, name)}


_FLOAT16_TOLERANCE = 2e-2  # 11 bits of mantissa in every weight, summed over layers
# Modules with one function per float precision; tf2onnx takes a sixth of the time to load all of this.
_CONVERTERS = {"tflite": "edgekit.convert.tflite", "onnx": "edgekit.convert.onnx"}


def _saved_model_specs(path: Path) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, tuple(map(int, spec.shape)), spec.dtype.name)
        for name, spec in float_graph.signature_inputs(path)
    )
