"""What this host computes for a fixed input: a device must come to the same before it is timed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema

from edgekit.profile.latency import Job
from edgekit.runtimes import open_model
from edgekit.runtimes.agent import read_inputs, synthetic_inputs

FLOAT_TOLERANCE = 1e-5  # of an output's largest value: sums in another order
INT8_TOLERANCE = 1 / 255  # one step of eight bits, where a kernel of another CPU rounds a half the other way
_EIGHT_BITS = (schema.TensorType.INT8, schema.TensorType.UINT8)
_QUANTIZERS = {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger"}


def with_reference(job: Job, inputs: Path | None, seed: int, folder: Path) -> Job:
    """Return the job with inputs and with what its runtime on this host makes of them, as files in ``folder``.

    Raises StageError for a file that the runtime of this host refuses.
    """
    session = open_model(job.path, job.format)
    given = job.inputs or inputs
    arrays = read_inputs(str(given), session.inputs) if given else synthetic_inputs(session.inputs, seed)
    outputs = session.run(arrays)
    fed, expected = folder / "inputs.npz", folder / "expected.npz"
    folder.mkdir(parents=True)
    np.savez(fed, **{tensor["name"]: array for tensor, array in zip(session.inputs, arrays, strict=True)})
    np.savez(expected, **{tensor["name"]: array for tensor, array in zip(session.outputs, outputs, strict=True)})
    return replace(job, inputs=fed, expected=expected, tolerance=expected_tolerance(job.path, job.format))


def expected_tolerance(path: Path, format: str) -> float:
    """Return how far a float output may be off on another CPU, as a share of its largest magnitude."""
    return INT8_TOLERANCE if is_quantized(path, format) else FLOAT_TOLERANCE


def is_quantized(path: Path, format: str) -> bool:
    """Say whether anything in the file is computed in eight bits."""
    if format == "onnx":
        graph = onnx.load(str(path), load_external_data=False).graph
        return any(node.op_type in _QUANTIZERS for node in graph.node)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    return any(
        tensor.type in _EIGHT_BITS and tensor.quantization is not None and tensor.quantization.scale is not None
        for graph in model.subgraphs
        for tensor in graph.tensors
    )
