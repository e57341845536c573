"""The convert stage: one float hand-off per model, then the files that targets run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit import keras_io
from edgekit.artifact import TensorSpec
from edgekit.convert import float_graph, onnx, tflite
from edgekit.convert.finish import load_arrays, reference_of, save_arrays
from edgekit.convert.parity import compare
from edgekit.dataset import Preprocess, open_dataset
from edgekit.errors import StageError
from edgekit.progress import Progress
from edgekit.runtimes import open_model

Arrays = dict[str, npt.NDArray[Any]]

SAVED_MODEL, INPUTS, REFERENCE, FIRST = "saved_model", "inputs.npz", "reference.npz", "first.npz"


def float_model(
    *, out: Path, progress: Progress, model: Path, source: str, dataset: dict[str, Any], samples: int
) -> dict[str, Any]:
    """Write ``saved_model/`` with batch 1, and what the source computes on the first calibration samples.

    ``inputs.npz`` and ``reference.npz`` hold (N, ...) per name, ``first.npz`` the first input with batch 1.
    """
    progress(0.1, "loading the model")
    warnings: list[str] = []
    parameters = None
    if source == "saved_model":
        float_graph.resign(model, out / SAVED_MODEL)
        specs = _saved_model_specs(out / SAVED_MODEL)
        inputs = _parity_inputs(dataset, specs, samples)
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
        inputs = _parity_inputs(dataset, specs, samples)
        outputs = float_graph.reference(network, inputs)
    _save(out, inputs, outputs)
    return {"warnings": warnings, "parameters": parameters}


def float_onnx_source(
    *, out: Path, progress: Progress, model: Path, dataset: dict[str, Any], samples: int
) -> dict[str, Any]:
    """Take a user's ONNX file as the float model: write ``model.onnx`` with batch 1, checked against the source."""
    progress(0.1, "reading the ONNX file")
    (out / "model.onnx").write_bytes(onnx.from_onnx(model))
    session = open_model(out / "model.onnx", "onnx")
    specs = tuple(TensorSpec(i["name"], tuple(i["shape"]), i["dtype"]) for i in session.inputs)
    inputs = _parity_inputs(dataset, specs, samples)
    outputs = reference_of(model, "onnx", inputs)  # the untouched source, in its runtime
    _save(out, inputs, outputs)
    error = _check(out / "model.onnx", "onnx", inputs, outputs, 1e-4, "batch-1 ONNX")
    return {"warnings": [], "parameters": None, "parity_error": error}


def float_artifact(
    *, out: Path, progress: Progress, saved_model: Path, reference: Path, inputs: Path, format: str, precision: str,
    tolerance: float,
) -> dict[str, Any]:  # fmt: skip
    """Convert the SavedModel to ``model.tflite`` or ``model.onnx`` and compare it with the source's outputs.

    Raises StageError beyond ``tolerance`` (relative to each output's largest magnitude) for float32.
    """
    progress(0.2, f"converting to {format}")
    path = out / f"model.{format}"
    path.write_bytes(_CONVERTERS[format, precision](saved_model))
    progress(0.8, "comparing with the source")
    limit = tolerance if precision == "float32" else _FLOAT16_TOLERANCE
    name = f"{precision} {format}"
    return {"parity_error": _check(path, format, load_arrays(inputs), load_arrays(reference), limit, name)}


_FLOAT16_TOLERANCE = 2e-2  # 11 bits of mantissa in every weight, summed over layers
_CONVERTERS: dict[tuple[str, str], Callable[[Path], bytes]] = {
    ("tflite", "float32"): tflite.float32,
    ("tflite", "float16"): tflite.float16,
    ("onnx", "float32"): onnx.float32,
}


def _check(path: Path, format: str, inputs: Arrays, reference: Arrays, tolerance: float, name: str) -> float:
    parity = compare(reference, reference_of(path, format, inputs), tolerance)
    if not parity.passed:
        raise StageError(
            f"The {name} file does not compute what the source model computes: {parity.problem}.",
            "Nothing was emitted from it. Please report the architecture: this is a conversion fault.",
        )
    return float(parity.max_error)


def _parity_inputs(dataset: dict[str, Any], specs: tuple[TensorSpec, ...], samples: int) -> Arrays:
    data = open_dataset(
        dataset["kind"], dataset["path"], None, Preprocess.from_json(dataset["preprocess"]), labelled=False
    )
    chosen = list(data.batches(specs, samples))
    return {spec.name: np.concatenate([sample[spec.name] for sample in chosen]) for spec in specs}


def _saved_model_specs(path: Path) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name, tuple(map(int, spec.shape)), spec.dtype.name)
        for name, spec in float_graph.signature_inputs(path)
    )


def _save(out: Path, inputs: Arrays, outputs: Arrays) -> None:
    bad = [name for name, array in outputs.items() if not np.isfinite(array.astype(np.float64)).all()]
    if bad:
        raise StageError(
            f"The source model's output {bad[0]!r} is NaN or infinite on a calibration sample.",
            "Check [preprocess] and the model before optimizing it.",
        )
    save_arrays(out / INPUTS, inputs)
    save_arrays(out / REFERENCE, outputs)
    save_arrays(out / FIRST, {name: array[:1] for name, array in inputs.items()})
