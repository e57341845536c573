"""An op with its sizes: what the micro-benchmarks time, whatever kind of file it comes from."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from edgekit.prune.channels.coupling import IntArray
from edgekit.prune.channels.graph import Flowing, MacTerm, Operated

Pair = tuple[int, int]
Terms = tuple[MacTerm, ...]


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
    terms: Terms = ()


Rule = Callable[[Operated, Terms], list[Op]]
"""Lists the ops that one call of a layer runs as."""


def elementwise(kind: str, call: Operated) -> Op:
    """Return an op over every position of what a call makes, or for "global" of what it reads."""
    flow = call.inputs[0] if kind == "global" else call.outputs[0]
    return Op(call.layer, OpShape(kind, size_of(flow)), call.outputs[0].units, call.outputs[0].units)


def plain(*kinds: str) -> Rule:
    """Return the rule of a layer that is one element-wise op, or several in a row."""
    return lambda call, terms: [elementwise(kind, call) for kind in kinds]


def by_macs(call: Operated, terms: Terms) -> list[Op]:
    """Return what no micro-benchmark covers; nothing where it multiplies nothing."""
    return [Op(call.layer, None, terms[0].inputs, terms[0].outputs, terms)] if terms else []


def scaled(kind: str, call: Operated) -> list[Op]:
    """Return an enlargement by whole factors; nothing for any other."""
    before, after = size_of(call.inputs[0]), size_of(call.outputs[0])
    if after[0] % before[0] or after[1] % before[1]:
        return []
    shape = OpShape(kind, before, stride=(after[0] // before[0], after[1] // before[1]))
    return [Op(call.layer, shape, call.outputs[0].units, call.outputs[0].units)]


def size_of(flow: Flowing) -> Pair:
    """Return height and width; one-dimensional data is a column, unknown sizes count as 1."""
    channels = len(flow.shape) + flow.axis
    sizes = [size or 1 for axis, size in enumerate(flow.shape) if axis not in (0, channels)]
    return (math.prod(sizes[:-1]) or 1, sizes[-1]) if len(sizes) > 1 else (sizes[0] if sizes else 1, 1)
