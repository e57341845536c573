"""Read what a quantized file holds: scales and zero points of activations, weights as the numbers they stand for.

Works on any TFLite file and on ONNX files, whoever wrote them; of operators on integers without Q/DQ pairs, only
the activations are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgekit.errors import StageError
from edgekit.quantize.graph import Graph, Op, read_graph

Array = npt.NDArray[Any]
CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear"})
DYNAMIC_CONVERSION = "DynamicQuantizeLinear"
_TFLITE_CODES = {
    schema.TensorType.INT8: np.int8,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}


# What onnxruntime turns into an int8 kernel, or drops the pair around (optimizer/qdq_transformer/selectors_actions).
_ORT_FUSES = frozenset(
    {
        *("Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "Sigmoid", "LeakyRelu", "Softmax", "Concat"),
        *("AveragePool", "GlobalAveragePool", "MaxPool", "Resize", "Split", "Gather", "Reshape", "Transpose"),
        *("Squeeze", "Unsqueeze", "Flatten", "Expand", "Tile", "Pad", "Relu", "Clip", "Where", "Slice"),
        *("ReduceMin", "ReduceMax"),
    }
)
# Where onnxruntime's operators on integers keep the scale of what they make (docs/ContribOperators.md).
_ORT_OUTPUT_SCALE = {
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul"), 6),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"), 3),
    **dict.fromkeys(("QLinearAveragePool", "QLinearGlobalAveragePool"), 3),
    "QLinearConcat": 0,
    "QGemm": 7,
}


@dataclass(frozen=True)
class Quantization:
    """value = (code - zero) * scale. ``scale`` and ``zero`` have one entry, or one per channel of ``axis``."""

    scale: Array
    zero: Array
    axis: int
    dtype: str

    @property
    def per_tensor(self) -> bool:
        return self.scale.size == 1

    @property
    def range(self) -> tuple[float, float]:
        """Return the smallest and largest value that can be held (of the widest channel)."""
        info = np.iinfo(self.dtype)
        low, high = ((bound - self.zero.astype(np.float64)) * self.scale for bound in (info.min, info.max))
        return float(low.min()), float(high.max())

    def values(self, codes: Array) -> Array:
        """Return float32 values of an array of codes."""
        shape = [1] * codes.ndim
        if not self.per_tensor:
            shape[self.axis] = -1
        scale, zero = self.scale.reshape(shape), self.zero.reshape(shape)
        result: Array = ((codes.astype(np.float64) - zero) * scale).astype(np.float32)
        return result


@dataclass(frozen=True)
class Constant:
    """Weights or a bias as stored: the values they stand for, and how they are quantized (None: float)."""

    values: Array
    quantization: Quantization | None
    saturated: int = 0  # int32 entries at either end of int32


@dataclass(frozen=True)
class QuantizedFile:
    """``activations``: tensor name -> the int8 form of its values, also of float tensors beside a conversion.

    ``constants``: by name of the tensor an op reads; ``integers``: tensors that are stored as integers;
    ``tensors``: all names by number, which is how LiteRT calls them (empty for ONNX).
    """

    graph: Graph
    activations: Mapping[str, Quantization]
    constants: Mapping[str, Constant]
    integers: frozenset[str]
    tensors: tuple[str, ...] = ()

    def maker(self, tensor: str) -> Op | None:
        """Return the op that computes a tensor, looking through conversions between int8 and float."""
        while (position := self.graph.producers.get(tensor)) is not None:
            op = self.graph.ops[position]
            if op.kind not in CONVERSIONS:
                return op
            tensor = op.inputs[0]
        return None

    def readers(self, tensor: str) -> list[Op]:
        """Return the ops that read a tensor, looking through conversions."""
        found = []
        for position in self.graph.consumers.get(tensor, ()):
            op = self.graph.ops[position]
            found += self.readers(op.outputs[0]) if op.kind in CONVERSIONS else [op]
        return found

    def computes_in_int8(self, op: Op) -> bool:
        """Tell whether an op runs on integers; in ONNX, whether the runtime fuses it with the Q/DQ around it."""
        inputs = [name for name in op.inputs if name and not self.is_constant(name)]
        if op.kind in _ORT_FUSES:
            return bool(inputs) and all(name in self.activations for name in (*inputs, op.outputs[0]))
        return bool(inputs) and all(name in self.integers for name in (*inputs, op.outputs[0]))

    def is_constant(self, tensor: str) -> bool:
        return tensor in self.constants or tensor in self.graph.constants


_Content = tuple[dict[str, Quantization], dict[str, Constant], set[str], tuple[str, ...]]


def read_quantized(path: Path, format: str) -> QuantizedFile:
    """Read a .tflite or .onnx. Raises StageError for a broken file."""
    try:
        graph = read_graph(path, format)
        activations, constants, integers, names = _READERS[format](path, graph)
    except (ValueError, IndexError, KeyError, onnx.shape_inference.InferenceError) as error:
        raise StageError(f"{path.name} is not a readable {format} file: {error}") from error
    return QuantizedFile(graph, activations, constants, frozenset(integers), names)


def _read_tflite(path: Path, graph: Graph) -> _Content:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))
    integers: set[str] = set()
    activations: dict[str, Quantization] = {}
    constants: dict[str, Constant] = {}
    for tensor in model.subgraphs[0].tensors:
        name, found = tensor.name.decode(), _tflite_quantization(tensor)
        data = model.buffers[tensor.buffer].data
        if data is None:
            if found is not None:
                activations[name] = found
                integers.add(name)
        elif tensor.type == schema.TensorType.FLOAT32:
            constants[name] = Constant(np.frombuffer(bytes(data), np.float32).reshape(_shape(tensor)), None)
        elif found is not None:
            codes = np.frombuffer(bytes(data), found.dtype).reshape(_shape(tensor))
            constants[name] = Constant(found.values(codes), found, _saturated(codes))
    for op in graph.ops:
        if op.kind == "DEQUANTIZE" and op.inputs[0] in constants:
            constants[op.outputs[0]] = constants[op.inputs[0]]
        elif op.kind in CONVERSIONS:
            _both_sides(op, activations)
    return activations, constants, integers, tuple(tensor.name.decode() for tensor in model.subgraphs[0].tensors)


def _tflite_quantization(tensor: Any) -> Quantization | None:
    stored = tensor.quantization
    dtype = _TFLITE_CODES.get(tensor.type)
    if dtype is None or stored is None or stored.scale is None or not len(stored.scale):
        return None
    scale = np.asarray(stored.scale, np.float64)
    zero = np.zeros(len(scale), np.int64) if stored.zeroPoint is None else np.asarray(stored.zeroPoint, np.int64)
    return Quantization(scale, np.broadcast_to(zero, scale.shape), stored.quantizedDimension, np.dtype(dtype).name)


def _shape(tensor: Any) -> tuple[int, ...]:
    return tuple(int(n) for n in tensor.shape) if tensor.shape is not None else ()


def _read_onnx(path: Path, graph: Graph) -> _Content:
    proto = onnx.load(str(path))
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            stored[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    activations: dict[str, Quantization] = {}
    constants = {name: Constant(value, None) for name, value in stored.items() if value.dtype == np.float32}
    integers = {node.output[0] for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    for node in proto.graph.node:
        operand = _ORT_OUTPUT_SCALE.get(node.op_type)
        if operand is not None and node.input[operand] in stored:
            scale_of = ["", node.input[operand], node.input[operand + 1]]
            activations[node.output[0]] = _onnx_quantization(scale_of, 1, stored)
            integers.add(node.output[0])
        if node.op_type not in CONVERSIONS or node.input[1] not in stored:
            continue
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        found = _onnx_quantization(node.input, axis, stored)
        if node.input[0] not in stored:
            activations[node.input[0]] = activations[node.output[0]] = found
        elif node.op_type == "DequantizeLinear":
            codes = stored[node.input[0]]
            found = Quantization(found.scale, found.zero, found.axis, codes.dtype.name)
            constants[node.output[0]] = Constant(found.values(codes), found, _saturated(codes))
    return activations, constants, integers, ()


def _onnx_quantization(inputs: Sequence[str], axis: int, stored: Mapping[str, Array]) -> Quantization:
    """Read the inputs of a conversion: tensor, scale and, where there is one, zero point."""
    scale = np.atleast_1d(stored[inputs[1]]).astype(np.float64)
    zero = stored.get(inputs[2]) if len(inputs) > 2 else None
    codes = np.uint8 if zero is None else zero.dtype
    zero = np.zeros(1, np.int64) if zero is None else np.atleast_1d(zero).astype(np.int64)
    return Quantization(scale, np.broadcast_to(zero, scale.shape), axis, np.dtype(codes).name)


def _both_sides(op: Op, activations: dict[str, Quantization]) -> None:
    """Let the float side of a conversion carry the int8 side's scale: these are the values it can have."""
    side = op.outputs[0] if op.kind == "QUANTIZE" else op.inputs[0]
    other = op.inputs[0] if op.kind == "QUANTIZE" else op.outputs[0]
    if side in activations:
        activations.setdefault(other, activations[side])


def _saturated(codes: Array) -> int:
    if codes.dtype != np.int32:
        return 0
    info = np.iinfo(np.int32)
    return int(((codes <= info.min + 1) | (codes >= info.max - 1)).sum())


_READERS = {"tflite": _read_tflite, "onnx": _read_onnx}
