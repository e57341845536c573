"""A float .onnx whose initializers are replaced."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgekit.quantize.equalize.layers import Array, Layer, Passage, Shape, Window
from edgekit.quantize.graph import Op, read_graph

_ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "PRelu"})
_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
_REDUCTIONS = frozenset({"ReduceMean", "ReduceMax"})
_CONV_WEIGHT_AXES = (0, 1)


class OnnxFile:
    """The main graph of a float .onnx, opened for rescaling."""

    def __init__(self, path: Path) -> None:
        self.graph = read_graph(path, "onnx")
        self._model = onnx.load(str(path))
        main = self._model.graph
        self._nodes = [node for node in main.node if node.op_type != "Constant"]
        self._initializers = {tensor.name: tensor for tensor in main.initializer}
        self._values = {
            node.output[0]: a.t
            for node in main.node
            if node.op_type == "Constant"
            for a in node.attribute
            if a.name == "value"
        } | self._initializers
        inferred = onnx.shape_inference.infer_shapes(self._model).graph
        self._types = {value.name: value.type for value in (*inferred.input, *inferred.output, *inferred.value_info)}
        self._reads = Counter(_reads(main))
        self._ends = {value.name for value in (*main.input, *main.output)}

    def shape(self, tensor: str) -> Shape | None:
        if tensor not in self._types or not self._types[tensor].tensor_type.HasField("shape"):
            return None
        sizes = tuple(dim.dim_value for dim in self._types[tensor].tensor_type.shape.dim)
        return sizes if sizes and all(sizes) else None

    def layer(self, position: int) -> Layer | None:
        op, attributes = self.graph.ops[position], self._attributes(position)
        if not op.weighted or not op.is_float or op.weight not in self._initializers:
            return None
        if self._initializers[op.weight].data_type != onnx.TensorProto.FLOAT:
            return None
        if op.kind == "Conv":
            bias = op.inputs[2] if len(op.inputs) > 2 else ""
            groups = attributes.get("group", 1)
            return self._known(Layer(op.outputs[0], op.weight, bias, *_CONV_WEIGHT_AXES, groups, data_axis=1))
        if op.kind == "Gemm" and not attributes.get("transA", 0):
            bias = op.inputs[2] if len(op.inputs) > 2 else ""
            axes = (0, 1) if attributes.get("transB", 0) else (1, 0)
            return self._known(Layer(op.outputs[0], op.weight, bias, *axes, matrix=True))
        if op.kind == "MatMul" and self.array(op.weight).ndim == 2:
            output, bias = self._added(op)
            return self._known(Layer(output, op.weight, bias, 1, 0, matrix=True))
        return None

    def window(self, position: int) -> Window | None:
        op, attributes = self.graph.ops[position], self._attributes(position)
        weight, data = self.array(op.weight) if op.weighted else None, self.shape(op.inputs[0])
        if op.kind != "Conv" or weight is None or weight.ndim != 4 or data is None:
            return None
        kernel = (weight.shape[2], weight.shape[3])
        strides = tuple(attributes.get("strides", (1, 1)))
        dilations = tuple(attributes.get("dilations", (1, 1)))
        mode = attributes.get("auto_pad", b"NOTSET")
        if mode == b"SAME_UPPER":
            return Window.same(kernel, strides, dilations, (data[2], data[3]))
        top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
        return None if mode == b"SAME_LOWER" else Window(kernel, strides, dilations, ((top, bottom), (left, right)))

    def passage(self, position: int) -> Passage | None:
        op, attributes = self.graph.ops[position], self._attributes(position)
        if op.kind in _ACTIVATIONS:
            return Passage(activates=True)
        if op.kind == "Clip":
            return self._clip(op, attributes)
        if op.kind in _POOLS:
            return Passage(axes=(1,))
        if op.kind == "Identity" or (op.kind == "Pad" and self._pads_zeros(op, attributes)):
            return Passage()
        if op.kind == "Resize":
            cropped = attributes.get("coordinate_transformation_mode", b"") == b"tf_crop_and_resize"
            return None if cropped else Passage()
        if op.kind in _RESHAPES:
            return Passage("reshape")
        if op.kind == "Transpose":
            shape = self.shape(op.inputs[0])
            return Passage("permute", tuple(attributes.get("perm") or reversed(range(len(shape or ())))))
        if op.kind in _REDUCTIONS:
            axes = attributes.get("axes") or self._constant(op, 1)
            return Passage("reduce-keep" if attributes.get("keepdims", 1) else "reduce", axes) if axes else None
        return None

    def is_private(self, tensor: str) -> bool:
        return tensor in self._initializers and self._reads[tensor] == 1 and tensor not in self._ends

    def is_single(self, tensor: str) -> bool:
        # A reader inside a branch or loop counts in the reads, but is no op of the main graph.
        return self._reads[tensor] == len(self.graph.consumers.get(tensor, ())) == 1 and tensor not in self._ends

    def array(self, tensor: str) -> Array:
        found: Array = onnx.numpy_helper.to_array(self._values[tensor])
        return found

    def replace(self, tensor: str, values: Array) -> None:
        self._initializers[tensor].CopyFrom(onnx.numpy_helper.from_array(np.asarray(values, np.float32), tensor))

    def content(self) -> bytes:
        return bytes(self._model.SerializeToString(deterministic=True))

    def _known(self, layer: Layer) -> Layer | None:
        """Refuse a bias that is computed, or not one value per output channel."""
        if not layer.bias:
            return layer
        channels = self.array(layer.weight).shape[layer.output_axis]
        return layer if layer.bias in self._initializers and self.array(layer.bias).size == channels else None

    def _added(self, op: Op) -> tuple[str, str]:
        """Return the output of a product and its bias, which ONNX adds in an op of its own."""
        output, channels = op.outputs[0], self.array(op.weight).shape[1]
        if not self.is_single(output):
            return output, ""
        reader = self.graph.ops[self.graph.consumers[output][0]]
        other = next((name for name in reader.inputs if name != output), "")
        if reader.kind != "Add" or other not in self._initializers:
            return output, ""
        bias = self.array(other)
        return (reader.outputs[0], other) if bias.size == channels == bias.shape[-1] else (output, "")

    def _clip(self, op: Op, attributes: dict[str, Any]) -> Passage | None:
        limits = [attributes.get("min"), attributes.get("max")]
        for slot in (1, 2):
            if len(op.inputs) > slot and op.inputs[slot]:
                limits[slot - 1] = next(iter(self._constant(op, slot)), math.nan)
        low, high = limits
        if low != 0 or (high is not None and not high > 0):
            return None
        return Passage(activates=True, cap=math.inf if high is None else float(high))

    def _pads_zeros(self, op: Op, attributes: dict[str, Any]) -> bool:
        if attributes.get("mode", b"constant") != b"constant":
            return True
        if len(op.inputs) > 2 and op.inputs[2]:
            return self._constant(op, 2) == (0,)
        return not attributes.get("value", 0.0)

    def _constant(self, op: Op, slot: int) -> tuple[Any, ...]:
        """Return the values of a constant operand, nothing if it is absent or computed."""
        name = op.inputs[slot] if len(op.inputs) > slot else ""
        return tuple(self.array(name).reshape(-1).tolist()) if name in self._values else ()

    def _attributes(self, position: int) -> dict[str, Any]:
        return {a.name: onnx.helper.get_attribute_value(a) for a in self._nodes[position].attribute}


def _reads(graph: onnx.GraphProto) -> Iterator[str]:
    """Yield every name an op reads, those inside branches and loops too."""
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _reads(inner)
                yield from (value.name for value in inner.output)
