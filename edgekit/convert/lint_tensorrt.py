"""What TensorRT's ONNX parser rejects in a Q/DQ model, and what it silently reads otherwise.

``reduce_axes``: the importer of TensorRT 8 takes a reduction's axes from the attribute only, and reduces over all
axes where there is none (onnx-tensorrt 8.2-GA, builtin_op_importers.cpp). Sources of the others: NVIDIA/TensorRT
issues 2774 and 4698, onnxruntime issues 14229, 14626 and 17738, onnx-tensorrt operators.md, and "Working with
quantized types" in the TensorRT documentation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_INTEGER_OPS = ("ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")
# ReduceSum takes its axes as an input since opset 13, which TensorRT 8 knows.
_REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSumExp")
_OVERLOOKED = "TensorRT 8 overlooks them and reduces over all; export the model with opset 17"
_SMALLEST_WEIGHT = -127
_CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1}


def _arrays(proto: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def _pairs(proto: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, npt.NDArray[Any] | None]]:
    """Yield every Q and DQ node with its zero point; None where absent, which means 0 (and uint8 for Q)."""
    arrays = _arrays(proto)
    for node in proto.graph.node:
        if node.op_type in _PAIR:
            yield node, arrays.get(node.input[2]) if len(node.input) > 2 else None


def reduce_axes(proto: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    for node in proto.graph.node:
        if node.op_type in _REDUCTIONS and len(node.input) > 1:
            yield node.name, f"{node.op_type} has its axes as an input: {_OVERLOOKED}"


def zero_points(proto: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    for node, zero in _pairs(proto):
        if zero is not None and zero.any():
            yield node.name, "the zero point is not 0: TensorRT takes symmetric quantization only"


def int8_only(proto: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    for node, zero in _pairs(proto):
        kind = "uint8" if zero is None and node.op_type == "QuantizeLinear" else getattr(zero, "dtype", "int8")
        if str(kind) not in ("int8", "int32"):  # int32 is the bias rule's
            yield node.name, f"quantizes to {kind}: TensorRT takes int8"


def no_int32_bias(proto: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    arrays = _arrays(proto)
    for node, zero in _pairs(proto):
        source = arrays.get(node.input[0])
        if node.op_type == "DequantizeLinear" and any(a is not None and a.dtype == np.int32 for a in (source, zero)):
            yield node.name, "dequantizes an int32 bias: TensorRT wants the bias in float"


def per_channel_weights_only(proto: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    arrays = _arrays(proto)
    readers = {name: node for node in proto.graph.node for name in node.input}
    producers = {name: node for node in proto.graph.node for name in node.output}
    for node, _ in _pairs(proto):
        if arrays.get(node.input[1], np.zeros(1)).size <= 1:
            continue
        source = node.input[0]
        if node.op_type == "DequantizeLinear" and source in producers:
            source = producers[source].input[0]
        if source not in arrays:
            yield node.name, "has a scale per channel on an activation: only weights may"
            continue
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        reader = readers.get(node.output[0])
        wanted = _CHANNEL_AXIS.get(reader.op_type) if reader is not None else None
        if wanted is not None and reader is not None and axis != wanted:
            yield node.name, f"has its scales on axis {axis}; {reader.op_type} wants axis {wanted}"


def no_integer_ops(proto: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    for node in proto.graph.node:
        if node.op_type in _INTEGER_OPS or node.op_type.startswith("QLinear"):
            yield node.name, f"{node.op_type} is not supported: TensorRT reads Q/DQ pairs around float ops"


def softmax_not_quantized(proto: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    dequantized = {n for node in proto.graph.node if node.op_type == "DequantizeLinear" for n in node.output}
    quantized = {node.input[0] for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    for node in proto.graph.node:
        if node.op_type == "Softmax" and node.input[0] in dequantized and node.output[0] in quantized:
            yield node.name, "Softmax stands between Q/DQ pairs: TensorRT has no int8 softmax"


def weight_range(proto: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    arrays = _arrays(proto)
    for node in proto.graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        weight = arrays.get(node.input[0])
        if weight is not None and weight.dtype == np.int8 and weight.size and weight.min() < _SMALLEST_WEIGHT:
            yield node.input[0], "holds -128: TensorRT's int8 weights are -127 to 127"


CHECKS = {
    "tensorrt_8_reduce_axes": reduce_axes,
    "tensorrt_zero_points": zero_points,
    "tensorrt_int8_only": int8_only,
    "tensorrt_no_int32_bias": no_int32_bias,
    "tensorrt_per_channel_weights": per_channel_weights_only,
    "tensorrt_no_integer_ops": no_integer_ops,
    "tensorrt_float_softmax": softmax_not_quantized,
    "tensorrt_weight_range": weight_range,
}
