"""Write one op as an .onnx file, float32 or int8 (u8 activations, s8 weights), as ONNX Runtime runs it on a CPU.

ONNX Runtime keeps convolutions in a blocked layout of its own, and turns tensors over on the way in and out. In a
network that is paid once, so a convolution is timed between a narrow 1x1 convolution and a global pooling,
and what these two take alone ("entry") is taken off.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.prune.latency.shapes import OpShape

_OPSET = 18
_IR_VERSION = 10
_FEW = 4  # channels that go into the 1x1 convolution: less than a block, so that they need no turning over
_SCALE, _ZERO = "scale", "zero"
_MICROSOFT = "com.microsoft"
BETWEEN = ("conv", "depthwise")
"""Kinds that are timed behind an entry."""


class _Graph:
    """A chain of nodes under construction."""

    def __init__(self, int8: bool) -> None:
        self.int8 = int8
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.generator = np.random.default_rng(0)
        if int8:
            self.constant(_SCALE, np.array(0.05, np.float32))
            self.constant(_ZERO, np.array(128, np.uint8))

    @property
    def kind(self) -> int:
        return int(TensorProto.UINT8 if self.int8 else TensorProto.FLOAT)

    def input(self, *shape: int) -> str:
        self.inputs.append(helper.make_tensor_value_info(f"i{len(self.inputs)}", self.kind, list(shape)))
        return f"i{len(self.inputs) - 1}"

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def node(self, op: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        output = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], domain=domain, **attributes))
        return output

    def convolution(self, source: str, kernel: tuple[int, ...], **attributes: Any) -> str:
        """kernel: (out, in / groups, height, width)"""
        name, place = f"w{len(self.nodes)}", len(self.nodes)
        if not self.int8:
            weights = [self.constant(name, self.generator.standard_normal(kernel, np.float32))]
            weights.append(self.constant(f"b{place}", np.zeros(kernel[0], np.float32)))
            return self.node("Conv", [source, *weights], **attributes)
        self.constant(name, self.generator.integers(-127, 128, kernel, np.int8))
        self.constant(f"s{place}", np.full(kernel[0], 0.05, np.float32))
        self.constant(f"z{place}", np.zeros(kernel[0], np.int8))
        self.constant(f"b{place}", np.zeros(kernel[0], np.int32))
        inputs = [source, _SCALE, _ZERO, name, f"s{place}", f"z{place}", _SCALE, _ZERO, f"b{place}"]
        return self.node("QLinearConv", inputs, **attributes)

    def pooled(self, source: str) -> str:
        if self.int8:
            inputs = [source, _SCALE, _ZERO, _SCALE, _ZERO]
            return self.node("QLinearGlobalAveragePool", inputs, _MICROSOFT, channels_last=0)
        return self.node("GlobalAveragePool", [source])

    def finish(self, output: str) -> bytes:
        outputs = [helper.make_tensor_value_info(output, self.kind, None)]
        graph = helper.make_graph(self.nodes, "op", self.inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(_MICROSOFT, 1)]
        return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION).SerializeToString())


def write(shape: OpShape, channels_in: int, channels_out: int, int8: bool) -> bytes:
    """Return the file of one op that reads and makes so many channels."""
    graph = _Graph(int8)
    if shape.kind in (*BETWEEN, "entry"):
        return _between(graph, shape, channels_in, channels_out)
    if shape.kind in ("dense", "transposed"):
        writer = _dense if shape.kind == "dense" else _transposed
        return graph.finish(writer(graph, shape, channels_in, channels_out))
    width = channels_out - channels_out // 2 if shape.kind == "concat" else channels_out
    source = graph.input(1, width, *shape.size)
    return graph.finish(_narrow(graph, shape, source, channels_out))


def _between(graph: _Graph, shape: OpShape, into: int, out: int) -> bytes:
    depthwise = shape.kind == "depthwise"
    into = into if shape.kind == "conv" else out
    here = graph.convolution(graph.input(1, _FEW, *shape.size), (into, _FEW, 1, 1))
    if shape.kind != "entry":
        window = {"strides": shape.stride, "dilations": shape.dilation, "pads": _pads(shape)}
        kernel = (out, 1 if depthwise else into, *shape.kernel)
        here = graph.convolution(here, kernel, group=out if depthwise else 1, **window)
    return graph.finish(graph.pooled(here))


def _dense(graph: _Graph, shape: OpShape, into: int, out: int) -> str:
    source = graph.input(math.prod(shape.size), into)
    if not graph.int8:
        weights = graph.constant("w", graph.generator.standard_normal((into, out), np.float32))
        return graph.node("Gemm", [source, weights, graph.constant("b", np.zeros(out, np.float32))])
    weights = graph.constant("w", graph.generator.integers(-127, 128, (into, out), np.int8))
    zero, bias = graph.constant("z", np.array(0, np.int8)), graph.constant("b", np.zeros(out, np.int32))
    return graph.node("QGemm", [source, _SCALE, _ZERO, weights, _SCALE, zero, bias, _SCALE, _ZERO], _MICROSOFT)


def _transposed(graph: _Graph, shape: OpShape, into: int, out: int) -> str:
    graph.int8 = False  # ONNX Runtime has no int8 kernel for it
    weights = graph.constant("w", graph.generator.standard_normal((into, out, *shape.kernel), np.float32))
    source = graph.input(1, into, *shape.size)
    return graph.node("ConvTranspose", [source, weights], strides=shape.stride, output_shape=shape.output_size)


def _narrow(graph: _Graph, shape: OpShape, source: str, out: int) -> str:
    """Add an op whose time depends on one width alone."""
    scaled = [source, _SCALE, _ZERO]
    if shape.kind in ("add", "mul"):
        other = graph.input(1, out, *shape.size)
        op = shape.kind.title()
        if graph.int8:
            return graph.node(f"QLinear{op}", [*scaled, other, _SCALE, _ZERO, _SCALE, _ZERO], _MICROSOFT)
        return graph.node(op, [source, other])
    if shape.kind == "sigmoid":
        if graph.int8:
            return graph.node("QLinearSigmoid", [*scaled, _SCALE, _ZERO], _MICROSOFT)
        return graph.node("Sigmoid", [source])
    if shape.kind == "concat":
        other = graph.input(1, max(out // 2, 1), *shape.size)
        if graph.int8:
            return graph.node("QLinearConcat", [_SCALE, _ZERO, *scaled, other, _SCALE, _ZERO], _MICROSOFT, axis=1)
        return graph.node("Concat", [source, other], axis=1)
    if shape.kind == "global":
        return graph.pooled(source)
    if shape.kind in ("nearest", "bilinear"):
        scales = graph.constant("scales", np.array([1, 1, *shape.stride], np.float32))
        mode = "linear" if shape.kind == "bilinear" else "nearest"
        return graph.node("Resize", [source, "", scales], mode=mode)
    window: dict[str, Any] = {"kernel_shape": shape.kernel, "strides": shape.stride, "pads": _pads(shape)}
    if shape.kind == "max_pool":
        return graph.node("MaxPool", [source], **window)
    if graph.int8:
        return graph.node("QLinearAveragePool", [*scaled, _SCALE, _ZERO], _MICROSOFT, **window)
    return graph.node("AveragePool", [source], **window)


def _pads(shape: OpShape) -> list[int]:
    """Return the padding of both axes before, then after: what "same" means in TensorFlow."""
    if shape.padding != "same":
        return [0, 0, 0, 0]
    pads = [
        max((made - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        for size, made, kernel, stride, dilation in zip(
            shape.size, shape.output_size, shape.kernel, shape.stride, shape.dilation, strict=True
        )
    ]
    return [pad // 2 for pad in pads] + [pad - pad // 2 for pad in pads]
