"""Write one op as a .tflite file, float32 or int8, without a converter: milliseconds instead of seconds.

Schema: tensorflow/compiler/mlir/lite/schema/schema.fbs; op versions: tensorflow/lite/tools/versioning/op_version.cc.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.prune.latency.shapes import OpShape

_SCALE = 0.05  # of every int8 tensor: the time does not depend on it, but kernels want the product of scales below 1
_VERSION = 3  # of int8 convolutions; float ones run in it as well


class _Graph:
    """One subgraph under construction."""

    def __init__(self, int8: bool) -> None:
        self.int8 = int8
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.generator = np.random.default_rng(0)

    def activation(self, shape: Sequence[int]) -> int:
        return self._tensor(shape, schema.TensorType.INT8 if self.int8 else schema.TensorType.FLOAT32, 0, [_SCALE], 0)

    def kernel(self, shape: Sequence[int], channel_axis: int) -> int:
        if self.int8:
            data: Any = self.generator.integers(-127, 128, shape, np.int8)
            scales = [_SCALE] * shape[channel_axis]
            return self._tensor(shape, schema.TensorType.INT8, self._buffer(data), scales, channel_axis)
        data = self.generator.standard_normal(shape, np.float32)
        return self._tensor(shape, schema.TensorType.FLOAT32, self._buffer(data))

    def bias(self, count: int) -> int:
        data: Any = np.zeros(count, np.int32 if self.int8 else np.float32)
        if self.int8:
            scales = [_SCALE * _SCALE] * count
            return self._tensor([count], schema.TensorType.INT32, self._buffer(data), scales, 0)
        return self._tensor([count], schema.TensorType.FLOAT32, self._buffer(data))

    def integers(self, values: Sequence[int]) -> int:
        return self._tensor([len(values)], schema.TensorType.INT32, self._buffer(np.array(values, np.int32)))

    def finish(
        self, op: str, options: str, values: dict[str, Any], inputs: list[int], output: int, feeds: int
    ) -> bytes:
        """Add the one op; its first ``feeds`` inputs that are no constants are the model's."""
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, op)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = values.pop("version")
        self.model.operatorCodes = [code]
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = 0, inputs, [output]
        if options:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(schema, f"{options}T")()
            for name, value in values.items():
                setattr(operator.builtinOptions, name, value)
        self.graph.operators = [operator]
        constant = [self.graph.tensors[index].buffer for index in inputs]
        self.graph.inputs = [index for index, buffer in zip(inputs, constant, strict=True) if buffer == 0][:feeds]
        self.graph.outputs = [output]
        self.model.subgraphs = [self.graph]
        builder = flatbuffers.Builder()
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _buffer(self, data: Any) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        return len(self.model.buffers) - 1

    def _tensor(self, shape: Sequence[int], kind: int, buffer: int, scales: Sequence[float] = (), axis: int = 0) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape = f"t{len(self.graph.tensors)}", list(shape)
        tensor.type, tensor.buffer = kind, buffer
        if self.int8 and scales:
            quantization = schema.QuantizationParametersT()
            quantization.scale = list(scales)
            quantization.zeroPoint = [0] * len(scales)
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1


def write(shape: OpShape, channels_in: int, channels_out: int, int8: bool) -> bytes:
    """Return the file of one op that reads and makes so many channels."""
    graph = _Graph(int8)
    return _WRITERS[shape.kind](graph, shape, channels_in, channels_out)


def _convolution(graph: _Graph, shape: OpShape, into: int, out: int) -> bytes:
    source, target = graph.activation([1, *shape.size, into]), graph.activation([1, *shape.output_size, out])
    kernel = graph.kernel([out, *shape.kernel, into], 0)
    values = {**_window(shape), "dilationHFactor": shape.dilation[0], "dilationWFactor": shape.dilation[1]}
    return graph.finish("CONV_2D", "Conv2DOptions", values, [source, kernel, graph.bias(out)], target, 1)


def _depthwise(graph: _Graph, shape: OpShape, into: int, out: int) -> bytes:
    source, target = graph.activation([1, *shape.size, out]), graph.activation([1, *shape.output_size, out])
    kernel = graph.kernel([1, *shape.kernel, out], 3)
    values = {**_window(shape), "dilationHFactor": shape.dilation[0], "dilationWFactor": shape.dilation[1]}
    values["depthMultiplier"] = 1
    inputs = [source, kernel, graph.bias(out)]
    return graph.finish("DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", values, inputs, target, 1)


def _transposed(graph: _Graph, shape: OpShape, into: int, out: int) -> bytes:
    wanted = [1, *shape.output_size, out]
    source, target = graph.activation([1, *shape.size, into]), graph.activation(wanted)
    kernel = graph.kernel([out, *shape.kernel, into], 0)
    inputs = [graph.integers(wanted), kernel, source, graph.bias(out)]
    return graph.finish("TRANSPOSE_CONV", "TransposeConvOptions", _window(shape), inputs, target, 1)


def _dense(graph: _Graph, shape: OpShape, into: int, out: int) -> bytes:
    rows = math.prod(shape.size)
    source, target = graph.activation([rows, into]), graph.activation([rows, out])
    values = {"version": 4 if graph.int8 else 1}
    inputs = [source, graph.kernel([out, into], 0), graph.bias(out)]
    return graph.finish("FULLY_CONNECTED", "FullyConnectedOptions", values, inputs, target, 1)


def _pool(graph: _Graph, shape: OpShape, into: int, out: int) -> bytes:
    source, target = graph.activation([1, *shape.size, out]), graph.activation([1, *shape.output_size, out])
    values = {**_window(shape), "filterHeight": shape.kernel[0], "filterWidth": shape.kernel[1], "version": 2}
    op = "MAX_POOL_2D" if shape.kind == "max_pool" else "AVERAGE_POOL_2D"
    return graph.finish(op, "Pool2DOptions", values, [source], target, 1)


def _mean(graph: _Graph, shape: OpShape, into: int, out: int) -> bytes:
    source, target = graph.activation([1, *shape.size, out]), graph.activation([1, 1, 1, out])
    values = {"keepDims": True, "version": 2}
    return graph.finish("MEAN", "ReducerOptions", values, [source, graph.integers([1, 2])], target, 1)


def _resize(graph: _Graph, shape: OpShape, into: int, out: int) -> bytes:
    source, target = graph.activation([1, *shape.size, out]), graph.activation([1, *shape.output_size, out])
    op = f"RESIZE_{'BILINEAR' if shape.kind == 'bilinear' else 'NEAREST_NEIGHBOR'}"
    options = "ResizeBilinearOptions" if shape.kind == "bilinear" else "ResizeNearestNeighborOptions"
    values: dict[str, Any] = {"halfPixelCenters": True, "version": _VERSION}
    return graph.finish(op, options, values, [source, graph.integers(shape.output_size)], target, 1)


def _binary(graph: _Graph, shape: OpShape, into: int, out: int) -> bytes:
    left, right, target = (graph.activation([1, *shape.size, out]) for _ in range(3))
    op = "ADD" if shape.kind == "add" else "MUL"
    return graph.finish(op, f"{op.title()}Options", {"version": 2}, [left, right], target, 2)


def _sigmoid(graph: _Graph, shape: OpShape, into: int, out: int) -> bytes:
    source, target = graph.activation([1, *shape.size, out]), graph.activation([1, *shape.size, out])
    if graph.int8:  # the one scale that the op allows its output
        quantization = graph.graph.tensors[target].quantization
        quantization.scale, quantization.zeroPoint = [1 / 256], [-128]
    return graph.finish("LOGISTIC", "", {"version": 2}, [source], target, 1)


def _concatenate(graph: _Graph, shape: OpShape, into: int, out: int) -> bytes:
    left, right = (graph.activation([1, *shape.size, width]) for width in (out - out // 2, max(out // 2, 1)))
    target = graph.activation([1, *shape.size, out - out // 2 + max(out // 2, 1)])
    values = {"axis": 3, "version": 2}
    return graph.finish("CONCATENATION", "ConcatenationOptions", values, [left, right], target, 2)


def _window(shape: OpShape) -> dict[str, Any]:
    padding = schema.Padding.SAME if shape.padding == "same" else schema.Padding.VALID
    return {"padding": padding, "strideH": shape.stride[0], "strideW": shape.stride[1], "version": _VERSION}


_WRITERS = {
    "conv": _convolution,
    "depthwise": _depthwise,
    "transposed": _transposed,
    "dense": _dense,
    "max_pool": _pool,
    "average_pool": _pool,
    "global": _mean,
    "nearest": _resize,
    "bilinear": _resize,
    "add": _binary,
    "mul": _binary,
    "sigmoid": _sigmoid,
    "concat": _concatenate,
}
