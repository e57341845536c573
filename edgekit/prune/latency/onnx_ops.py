"""What the operators of ONNX run as: in ONNX Runtime, and in LiteRT behind the conversion."""

from __future__ import annotations

import math
from dataclasses import replace

from edgekit.prune.channels.graph import Operated
from edgekit.prune.latency.shapes import Op, OpShape, Pair, Rule, Terms, by_macs, elementwise, plain, scaled, size_of


def folds(call: Operated) -> bool:
    """Say whether an operator costs nothing behind one with a kernel: batch norms, a bias, a scale."""
    return len(call.inputs) == 1 and call.operation.op in _FOLDED


def ops_of(call: Operated, terms: Terms) -> list[Op]:
    """List the ops that one node runs as."""
    followed = call.inputs and call.outputs and len(call.outputs[0].units)
    return _RULES.get(call.operation.op, by_macs)(call, terms) if followed else []


def _convolution(call: Operated, terms: Terms) -> list[Op]:
    groups, source, target = call.operation.attributes.get("group", 1), call.inputs[0], call.outputs[0]
    if not terms or len(source.shape) > 4 or source.axis != 1 - len(source.shape):
        return by_macs(call, terms)
    if groups == 1:
        return [Op(call.layer, _windowed("conv", call), source.units, target.units, terms)]
    if groups == len(source.units) == len(target.units):
        return [Op(call.layer, _windowed("depthwise", call), target.units, target.units, terms)]
    return by_macs(call, terms)


def _transposed(call: Operated, terms: Terms) -> list[Op]:
    attributes, source, target = call.operation.attributes, call.inputs[0], call.outputs[0]
    if not terms or len(source.shape) > 4 or attributes.get("group", 1) != 1 or source.axis != 1 - len(source.shape):
        return by_macs(call, terms)
    shape = OpShape("transposed", size_of(source), _pair(attributes["kernel_shape"]), _pair(attributes.get("strides")))
    if shape.output_size != size_of(target):
        return by_macs(call, terms)
    return [Op(call.layer, shape, source.units, target.units, terms)]


def _product(call: Operated, terms: Terms) -> list[Op]:
    """Return a product with a constant matrix as what it is, and one of two computed tensors by its size."""
    if len(call.inputs) != 1 or not terms:
        return by_macs(call, terms)
    rows = math.prod(size or 1 for size in call.outputs[0].shape) // len(call.outputs[0].units)
    return [Op(call.layer, OpShape("dense", (rows, 1)), terms[0].inputs, terms[0].outputs, terms)]


def _pooling(kind: str) -> Rule:
    def rule(call: Operated, terms: Terms) -> list[Op]:
        units = call.outputs[0].units
        return [Op(call.layer, _windowed(kind, call), units, units)] if len(call.inputs[0].shape) <= 4 else []

    return rule


def _mean(call: Operated, terms: Terms) -> list[Op]:
    """Return a mean over all positions; other reductions are small beside the layers around them."""
    read, made = size_of(call.inputs[0]), size_of(call.outputs[0])
    return [elementwise("global", call)] if made == (1, 1) != read else []


def _resize(call: Operated, terms: Terms) -> list[Op]:
    return scaled("nearest" if call.operation.attributes.get("mode", "nearest") == "nearest" else "bilinear", call)


def _windowed(kind: str, call: Operated) -> OpShape:
    """Return the window with the padding that makes an output of this size; else over what it reads, unpadded."""
    given, made = call.operation.attributes, size_of(call.outputs[0])
    kernel, stride, dilation = (_pair(given.get(name)) for name in ("kernel_shape", "strides", "dilations"))
    same = OpShape(kind, size_of(call.inputs[0]), kernel, stride, dilation)
    valid = replace(same, padding="valid")
    if same.output_size == made or valid.output_size == made:
        return same if same.output_size == made else valid
    height, width = (
        (size - 1) * step + (taps - 1) * apart + 1
        for size, taps, step, apart in zip(made, kernel, stride, dilation, strict=True)
    )
    return replace(valid, size=(height, width))


def _pair(numbers: list[int] | None) -> Pair:
    """Return an attribute with a number for each axis, 1 where there is none."""
    first, second = (*(numbers or ()), 1, 1)[:2]
    return int(first), int(second)


_FOLDED = {"BatchNormalization", "Add", "Sub", "Mul", "Div"}
_RULES: dict[str, Rule] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed,
    "Gemm": _product,
    "MatMul": _product,
    "BatchNormalization": plain("mul", "add"),
    "MaxPool": _pooling("max_pool"),
    "AveragePool": _pooling("average_pool"),
    **dict.fromkeys(["GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum"], _mean),
    "Resize": _resize,
    **dict.fromkeys(["Add", "Sub"], plain("add")),
    **dict.fromkeys(["Mul", "Div"], plain("mul")),
    "Concat": plain("concat"),
    **dict.fromkeys(["Sigmoid", "Tanh", "Erf"], plain("sigmoid")),
    "HardSwish": plain("mul"),
    **dict.fromkeys(["Gelu", "Swish"], plain("sigmoid", "mul")),
}
