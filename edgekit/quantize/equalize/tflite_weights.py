"""A float .tflite whose weights are replaced in place, so that nothing else in the file moves."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgekit.quantize.equalize.layers import Array, Layer, Passage, Shape, Window
from edgekit.quantize.graph import read_graph

_DTYPES = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.INT32: np.int32, schema.TensorType.INT64: np.int64}
_FUSED = {
    schema.ActivationFunctionType.NONE: Passage(),
    schema.ActivationFunctionType.RELU: Passage(activates=True),
    schema.ActivationFunctionType.RELU6: Passage(activates=True, cap=6.0),
}
_ACTIVATIONS = {
    "RELU": Passage(activates=True),
    "RELU6": Passage(activates=True, cap=6.0),
    "LEAKY_RELU": Passage(activates=True),
    "PRELU": Passage(activates=True),
}
_POOLS = frozenset({"MAX_POOL_2D", "AVERAGE_POOL_2D"})
_SPATIAL = frozenset({"PAD", "MIRROR_PAD", "RESIZE_NEAREST_NEIGHBOR", "RESIZE_BILINEAR"})
_RESHAPES = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})
_REDUCTIONS = frozenset({"MEAN", "REDUCE_MAX"})


class TfliteFile:
    """The main graph of a float .tflite, opened for rescaling."""

    def __init__(self, path: Path) -> None:
        self.graph = read_graph(path, "tflite")
        self._content = bytearray(path.read_bytes())
        self._model = flatbuffer_utils.read_model_from_bytearray(bytearray(self._content))
        self._root = schema.Model.GetRootAs(self._content, 0)
        self._main = self._model.subgraphs[0]
        self._tensors = {tensor.name.decode(): tensor for tensor in self._main.tensors}
        graphs = self._model.subgraphs
        self._buffer_uses = Counter(tensor.buffer for graph in graphs for tensor in graph.tensors)
        self._reads = Counter(name for op in self.graph.ops for name in op.inputs)

    def shape(self, tensor: str) -> Shape | None:
        found = self._tensors[tensor]
        sizes = tuple(int(size) for size in (found.shape if found.shape is not None else ()))
        varies = found.shapeSignature is not None and any(size < 0 for size in found.shapeSignature)
        return sizes if sizes and not varies else None

    def layer(self, position: int) -> Layer | None:
        op, options = self.graph.ops[position], self._main.operators[position].builtinOptions
        if not op.weighted or not op.is_float or not self._is_float(op.weight) or options is None:
            return None
        axes = {"CONV_2D": (0, 3), "DEPTHWISE_CONV_2D": (3, 0), "FULLY_CONNECTED": (0, 1)}.get(op.kind)
        weight, data = self.array(op.weight), self.shape(op.inputs[0])
        if axes is None or data is None or weight.ndim not in (2, 4):
            return None
        matrix = op.kind == "FULLY_CONNECTED"
        if matrix and options.weightsFormat != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
            return None
        return Layer(
            output=op.outputs[0],
            weight=op.weight,
            bias=op.inputs[2] if len(op.inputs) > 2 else "",
            output_axis=axes[0],
            input_axis=axes[1],
            groups=1 if matrix else data[-1] // weight.shape[axes[1]],
            matrix=matrix,
            activation=_FUSED.get(options.fusedActivationFunction),
        )

    def window(self, position: int) -> Window | None:
        layer, options = self.layer(position), self._main.operators[position].builtinOptions
        data = self.shape(self.graph.ops[position].inputs[0])
        if layer is None or layer.matrix or data is None:
            return None
        height, width = self.array(layer.weight).shape[1:3]
        kernel, strides = (height, width), (options.strideH, options.strideW)
        dilations = (options.dilationHFactor, options.dilationWFactor)
        if options.padding == schema.Padding.SAME:
            return Window.same(kernel, strides, dilations, (data[1], data[2]))
        return Window(kernel, strides, dilations, ((0, 0), (0, 0)))

    def passage(self, position: int) -> Passage | None:
        op, options = self.graph.ops[position], self._main.operators[position].builtinOptions
        if op.kind in _ACTIVATIONS:
            return _ACTIVATIONS[op.kind]
        if op.kind in _POOLS:
            fused = _FUSED.get(options.fusedActivationFunction)
            return None if fused is None else replace(fused, axes=(-1,))
        if op.kind in _SPATIAL:
            return Passage()
        if op.kind in _RESHAPES:
            return Passage("reshape")
        if (op.kind != "TRANSPOSE" and op.kind not in _REDUCTIONS) or op.inputs[1] not in self.graph.constants:
            return None
        axes = tuple(int(axis) for axis in self.array(op.inputs[1]).reshape(-1))
        if op.kind == "TRANSPOSE":
            return Passage("permute", axes)
        return Passage("reduce-keep" if options is not None and options.keepDims else "reduce", axes)

    def is_private(self, tensor: str) -> bool:
        return (
            self._reads[tensor] == 1
            and self._buffer_uses[self._tensors[tensor].buffer] == 1
            and tensor not in self.graph.outputs
            and self._is_float(tensor)
        )

    def is_single(self, tensor: str) -> bool:
        return self._reads[tensor] == 1 and tensor not in self.graph.outputs

    def array(self, tensor: str) -> Array:
        found = self._tensors[tensor]
        shape = tuple(int(size) for size in (found.shape if found.shape is not None else ()))
        dtype = np.dtype(_DTYPES[found.type])
        used = math.prod(shape) * dtype.itemsize  # equal beginnings share a buffer: zeros of several lengths do
        return self._bytes(found)[:used].view(dtype).reshape(shape).copy()

    def replace(self, tensor: str, values: Array) -> None:
        self._bytes(self._tensors[tensor])[:] = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8)

    def content(self) -> bytes:
        return bytes(self._content)

    def _bytes(self, tensor: Any) -> Array:
        """Return a view of the tensor's data inside the file."""
        data: Array = self._root.Buffers(tensor.buffer).DataAsNumpy()
        return data

    def _is_float(self, tensor: str) -> bool:
        """Tell whether these are plain float32 values inside the file."""
        found = self._tensors[tensor]
        sizes = found.shape if found.shape is not None else ()
        return bool(
            found.type == schema.TensorType.FLOAT32
            and found.sparsity is None
            and self._root.Buffers(found.buffer).DataLength() == 4 * math.prod(int(size) for size in sizes)
        )
