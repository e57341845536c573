"""What the layers of Keras run as."""

from __future__ import annotations

import math
from typing import Any

from edgekit.prune.channels.graph import Operated
from edgekit.prune.latency.shapes import Op, OpShape, Pair, Rule, Terms, by_macs, elementwise, plain, scaled, size_of


def folds(call: Operated) -> bool:
    """Say whether a layer costs nothing behind one with a kernel."""
    return type(call.operation).__name__ == "BatchNormalization"


def ops_of(call: Operated, terms: Terms) -> list[Op]:
    """List the ops that one call of a layer runs as."""
    return _RULES.get(type(call.operation).__name__, by_macs)(call, terms)


def _convolution(call: Operated, terms: Terms) -> list[Op]:
    layer, source, target = call.operation, call.inputs[0], call.outputs[0]
    if len(source.shape) > 4 or getattr(layer, "groups", 1) != 1:
        return by_macs(call, terms)
    return [Op(call.layer, _windowed("conv", call), source.units, target.units, terms), *_activation(call)]


def _depthwise(call: Operated, terms: Terms) -> list[Op]:
    units = call.outputs[0].units
    return [Op(call.layer, _windowed("depthwise", call), units, units, terms), *_activation(call)]


def _separable(call: Operated, terms: Terms) -> list[Op]:
    between = terms[0].outputs
    first = _windowed("depthwise", call)
    return [
        Op(call.layer, first, between, between, terms[:1]),
        Op(call.layer, OpShape("conv", first.output_size), between, call.outputs[0].units, terms[1:]),
        *_activation(call),
    ]


def _transposed(call: Operated, terms: Terms) -> list[Op]:
    source, target = call.inputs[0], call.outputs[0]
    shape = _windowed("transposed", call)
    if shape.padding != "same" or len(source.shape) > 4 or getattr(call.operation, "groups", 1) != 1:
        return by_macs(call, terms)
    return [Op(call.layer, shape, source.units, target.units, terms), *_activation(call)]


def _dense(call: Operated, terms: Terms) -> list[Op]:
    source, target = call.inputs[0], call.outputs[0]
    rows = math.prod(size or 1 for size in source.shape[1:-1])
    return [Op(call.layer, OpShape("dense", (rows, 1)), source.units, target.units, terms), *_activation(call)]


def _pooling(kind: str) -> Rule:
    return lambda call, terms: [Op(call.layer, _windowed(kind, call), call.outputs[0].units, call.outputs[0].units)]


def _upsampling(call: Operated, terms: Terms) -> list[Op]:
    kind = getattr(call.operation, "interpolation", "nearest")
    return scaled("bilinear" if kind == "bilinear" else "nearest", call)


def _activation(call: Operated, terms: Terms = ()) -> list[Op]:
    """Return what the activation of a layer runs as; ReLU and its kin are part of the op before."""
    name = getattr(getattr(call.operation, "activation", None), "__name__", type(call.operation).__name__.lower())
    return [elementwise(kind, call) for kind in _ACTIVATIONS.get(name, ())]


def _windowed(kind: str, call: Operated) -> OpShape:
    layer, source = call.operation, call.inputs[0]
    kernel = _pair(getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", 1))
    stride = _pair(getattr(layer, "strides", None) or kernel)
    dilation = _pair(getattr(layer, "dilation_rate", 1))
    padding = "same" if kernel == (1, 1) else str(getattr(layer, "padding", "same"))
    return OpShape(kind, size_of(source), kernel, stride, dilation, padding)


def _pair(value: Any) -> Pair:
    numbers = (value,) if isinstance(value, int) else tuple(value)
    return (int(numbers[0]), int(numbers[1]) if len(numbers) > 1 else 1)


_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "sigmoid": ("sigmoid",),
    "tanh": ("sigmoid",),
    "silu": ("sigmoid", "mul"),
    "swish": ("sigmoid", "mul"),
    "hardswish": ("mul",),
    "hard_silu": ("mul",),
    "hard_swish": ("mul",),
    "hardsilu": ("mul",),
    "gelu": ("sigmoid", "mul"),
}
_RULES: dict[str, Rule] = {
    "Conv1D": _convolution,
    "Conv2D": _convolution,
    "DepthwiseConv1D": _depthwise,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv1D": _separable,
    "SeparableConv2D": _separable,
    "Conv1DTranspose": _transposed,
    "Conv2DTranspose": _transposed,
    "Dense": _dense,
    "MaxPooling1D": _pooling("max_pool"),
    "MaxPooling2D": _pooling("max_pool"),
    "AveragePooling1D": _pooling("average_pool"),
    "AveragePooling2D": _pooling("average_pool"),
    "GlobalAveragePooling1D": plain("global"),
    "GlobalAveragePooling2D": plain("global"),
    "BatchNormalization": plain("mul", "add"),
    "UpSampling2D": _upsampling,
    "Resizing": _upsampling,
    "Add": plain("add"),
    "Subtract": plain("add"),
    "Multiply": plain("mul"),
    "Concatenate": plain("concat"),
    "Activation": _activation,
    **dict.fromkeys(["Sigmoid", "Silu", "HardSilu", "Tanh", "Gelu", "HardSwish", "Swish"], _activation),
}
