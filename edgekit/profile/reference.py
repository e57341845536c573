"""What this host computes for a fixed input: a device must come to the same before it is timed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
from ai_edge_litert import schema_py_generated as schema

from edgekit import arrays
from edgekit.profile.latency import Job
from edgekit.runtimes import open_model
from edgekit.runtimes.agent import read_inputs, synthetic_inputs

FLOAT_TOLERANCE = 1e-5  # of an output's largest value: sums in another order
INT8_TAIL_TOLERANCE = 8 / 255  # where float ops follow: a softmax made 2.3 % of one step (tflite-runtime on ARM32)
INT8_TOLERANCE = 1 / 255  # one step of eight bits, where a kernel of another CPU rounds a half the other way
_EIGHT_BITS = (schema.TensorType.INT8, schema.TensorType.UINT8)
_QUANTIZERS = {"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger", "MatMulInteger"}


def with_reference(job: Job, inputs: Path | None, seed: int, folder: Path) -> Job:
    """Return the job with inputs and with what its runtime on this host makes of them, as files in ``folder``.

    Raises StageError for a file that the runtime of this host refuses.
    """
    session = open_model(job.path, job.format)
    given = job.inputs or inputs
    given_arrays = read_inputs(str(given), session.inputs) if given else synthetic_inputs(session.inputs, seed)
    outputs = session.run(given_arrays)
    fed, expected = folder / "inputs.npz", folder / "expected.npz"
    folder.mkdir(parents=True)
    arrays.save(fed, {tensor["name"]: array for tensor, array in zip(session.inputs, given_arrays, strict=True)})
    arrays.save(expected, {tensor["name"]: array for tensor, array in zip(session.outputs, outputs, strict=True)})
    return replace(job, inputs=fed, expected=expected, tolerance=expected_tolerance(job.path, job.format))


def expected_tolerance(path: Path, format: str) -> float:
    """Return how far a float output may be off on another CPU, as a share of its largest magnitude."""
    eight_bits, dequantized = _READERS[format](path)
    if not eight_bits:
        return FLOAT_TOLERANCE
    return INT8_TOLERANCE if dequantized else INT8_TAIL_TOLERANCE


def _read_onnx(path: Path) -> tuple[bool, bool]:
    """Say whether anything is computed in eight bits, and whether every output comes straight from integers."""
    graph = onnx.load(str(path), load_external_data=False).graph
    maker = {name: node.op_type for node in graph.node for name in node.output}
    eight_bits = any(node.op_type in _QUANTIZERS for node in graph.node)
    return eight_bits, all(maker.get(output.name) == "DequantizeLinear" for output in graph.output)


def _read_tflite(path: Path) -> tuple[bool, bool]:
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(path.read_bytes(), 0))
    eight_bits = any(
        tensor.type in _EIGHT_BITS and tensor.quantization is not None and tensor.quantization.scale is not None
        for graph in model.subgraphs
        for tensor in graph.tensors
    )
    graph = model.subgraphs[0]
    maker = {
        int(index): model.operatorCodes[op.opcodeIndex].builtinCode for op in graph.operators for index in op.outputs
    }
    straight = all(
        graph.tensors[index].type in _EIGHT_BITS or maker.get(int(index)) == schema.BuiltinOperator.DEQUANTIZE
        for index in graph.outputs
    )
    return eight_bits, straight


_READERS = {"tflite": _read_tflite, "onnx": _read_onnx}
