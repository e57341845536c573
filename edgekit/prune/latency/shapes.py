"""Which ops a model runs, with their sizes: what the micro-benchmarks time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgekit.prune.channel_graph import ChannelGraph, Flowing, MacTerm, Operated
from edgekit.prune.channels import IntArray

Pair = tuple[int, int]


@dataclass(frozen=True, order=True)
class OpShape:
    """One kind of op at one place of a network. ``size``: height and width of what it reads.

    ``wide``: its time depends on how many channels go in and come out; else on those that come out alone.
    """

    kind: str
    size: Pair
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: str = "same"

    @property
    def wide(self) -> bool:
        return self.kind in ("conv", "dense", "transposed")

    @property
    def output_size(self) -> Pair:
        if self.kind == "global":
            return (1, 1)
        if self.kind in ("transposed", "nearest", "bilinear"):
            return (self.size[0] * self.stride[0], self.size[1] * self.stride[1])
        height, width = (
            math.ceil((size if self.padding == "same" else size - (kernel - 1) * dilation) / stride)
            for size, kernel, stride, dilation in zip(self.size, self.kernel, self.stride, self.dilation, strict=True)
        )
        return height, width

    @property
    def key(self) -> str:
        """Return e.g. ``conv 40x40 k3x3 s1x1 d1x1 same``."""
        by = "x".join
        numbers = (
            f"{letter}{by(map(str, pair))}"
            for letter, pair in (("", self.size), ("k", self.kernel), ("s", self.stride), ("d", self.dilation))
        )
        return f"{self.kind} {' '.join(numbers)} {self.padding}"


@dataclass(frozen=True, eq=False)
class Op:
    """One op of a model with the units of the channels it reads and makes.

    Without a ``shape`` no micro-benchmark covers it, and it is priced by the multiply-accumulates of ``terms``.
    """

    layer: str
    shape: OpShape | None
    inputs: IntArray
    outputs: IntArray
    terms: tuple[MacTerm, ...] = ()


def ops_of(graph: ChannelGraph) -> list[Op]:
    """List the ops that take time, in graph order. Free are what the converters fold or alias: batch norms
    behind a layer with a kernel, ReLU, reshapes, dropout."""
    kernels: set[bytes] = set()  # outputs of layers that a batch norm folds into
    ops: list[Op] = []
    for call in graph.calls:
        name = type(call.operation).__name__
        terms = graph.mac_terms[call.terms.start : call.terms.stop]
        if name in _SHAPES:
            found = _SHAPES[name](call, terms)
        elif name == "BatchNormalization":
            folded = call.inputs[0].units.tobytes() in kernels
            found = [] if folded else [_elementwise("mul", call), _elementwise("add", call)]
        else:
            found = [Op(call.layer, None, terms[0].inputs, terms[0].outputs, tuple(terms))] if terms else []
        ops += found
        if terms:
            kernels.add(call.outputs[0].units.tobytes())
    return ops


def _convolution(call: Operated, terms: tuple[MacTerm, ...]) -> list[Op]:
    layer, source, target = call.operation, call.inputs[0], call.outputs[0]
    if len(source.shape) > 4 or getattr(layer, "groups", 1) != 1:
        return [Op(call.layer, None, source.units, target.units, terms)]
    return [Op(call.layer, _windowed("conv", call), source.units, target.units, terms), *_activation(call)]


def _depthwise(call: Operated, terms: tuple[MacTerm, ...]) -> list[Op]:
    units = call.outputs[0].units
    return [Op(call.layer, _windowed("depthwise", call), units, units, terms), *_activation(call)]


def _separable(call: Operated, terms: tuple[MacTerm, ...]) -> list[Op]:
    between = terms[0].outputs
    first = _windowed("depthwise", call)
    return [
        Op(call.layer, first, between, between, terms[:1]),
        Op(call.layer, OpShape("conv", first.output_size), between, call.outputs[0].units, terms[1:]),
        *_activation(call),
    ]


def _transposed(call: Operated, terms: tuple[MacTerm, ...]) -> list[Op]:
    source, target = call.inputs[0], call.outputs[0]
    shape = _windowed("transposed", call)
    if shape.padding != "same" or len(source.shape) > 4 or getattr(call.operation, "groups", 1) != 1:
        return [Op(call.layer, None, source.units, target.units, terms)]
    return [Op(call.layer, shape, source.units, target.units, terms), *_activation(call)]


def _dense(call: Operated, terms: tuple[MacTerm, ...]) -> list[Op]:
    source, target = call.inputs[0], call.outputs[0]
    rows = math.prod(size or 1 for size in source.shape[1:-1])
    return [Op(call.layer, OpShape("dense", (rows, 1)), source.units, target.units, terms), *_activation(call)]


def _pooling(kind: str) -> Callable[[Operated, tuple[MacTerm, ...]], list[Op]]:
    def rule(call: Operated, terms: tuple[MacTerm, ...]) -> list[Op]:
        return [Op(call.layer, _windowed(kind, call), call.outputs[0].units, call.outputs[0].units)]

    return rule


def _upsampling(call: Operated, terms: tuple[MacTerm, ...]) -> list[Op]:
    source, target = call.inputs[0], call.outputs[0]
    before, after = _size(source), _size(target)
    if after[0] % before[0] or after[1] % before[1]:
        return []
    kind = "bilinear" if getattr(call.operation, "interpolation", "nearest") == "bilinear" else "nearest"
    shape = OpShape(kind, before, stride=(after[0] // before[0], after[1] // before[1]))
    return [Op(call.layer, shape, target.units, target.units)]


def _plain(kind: str) -> Callable[[Operated, tuple[MacTerm, ...]], list[Op]]:
    return lambda call, terms: [_elementwise(kind, call)]


def _elementwise(kind: str, call: Operated) -> Op:
    flow = call.inputs[0] if kind == "global" else call.outputs[0]
    return Op(call.layer, OpShape(kind, _size(flow)), call.outputs[0].units, call.outputs[0].units)


def _activation(call: Operated, terms: tuple[MacTerm, ...] = ()) -> list[Op]:
    """Return what the activation of a layer runs as; ReLU and its kin are part of the op before."""
    name = getattr(getattr(call.operation, "activation", None), "__name__", type(call.operation).__name__.lower())
    return [_elementwise(kind, call) for kind in _ACTIVATIONS.get(name, ())]


def _windowed(kind: str, call: Operated) -> OpShape:
    layer, source = call.operation, call.inputs[0]
    kernel = _pair(getattr(layer, "kernel_size", None) or getattr(layer, "pool_size", 1))
    stride = _pair(getattr(layer, "strides", None) or kernel)
    dilation = _pair(getattr(layer, "dilation_rate", 1))
    padding = "same" if kernel == (1, 1) else str(getattr(layer, "padding", "same"))
    return OpShape(kind, _size(source), kernel, stride, dilation, padding)


def _size(flow: Flowing) -> Pair:
    """Return height and width; one-dimensional data is a column, unknown sizes count as 1."""
    sizes = [size or 1 for size in flow.shape[1:-1]]
    return (math.prod(sizes[:-1]) or 1, sizes[-1]) if len(sizes) > 1 else (sizes[0] if sizes else 1, 1)


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
_SHAPES: dict[str, Callable[[Operated, tuple[MacTerm, ...]], list[Op]]] = {
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
    "GlobalAveragePooling1D": _plain("global"),
    "GlobalAveragePooling2D": _plain("global"),
    "UpSampling2D": _upsampling,
    "Resizing": _upsampling,
    "Add": _plain("add"),
    "Subtract": _plain("add"),
    "Multiply": _plain("mul"),
    "Concatenate": _plain("concat"),
    "Activation": _activation,
    **dict.fromkeys(["Sigmoid", "Silu", "HardSilu", "Tanh", "Gelu", "HardSwish", "Swish"], _activation),
}
