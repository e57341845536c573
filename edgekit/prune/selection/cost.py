"""What a channel costs: in channels, parameters, multiply-accumulates, or the milliseconds of ``latency``."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from edgekit.prune.channels.coupling import IntArray
from edgekit.prune.channels.graph import ChannelGraph, WeightAxis

_STEP = 16  # where nothing was measured: the lanes of an AVX-512 register, twice those of NEON


@dataclass(frozen=True, eq=False)
class Part:
    """The cost of one op or weight: ``price`` of how many channels of each vector stay.

    A vector holds the unit of each channel, -1 for one that always stays.
    """

    layer: str
    vectors: tuple[IntArray, ...]
    price: Callable[[tuple[int, ...]], float]


class Cost(Protocol):
    """A way to count what a network costs, as a sum of parts. ``step``: channels come and go in such multiples."""

    @property
    def name(self) -> str: ...

    @property
    def unit(self) -> str: ...

    @property
    def step(self) -> int: ...

    def parts(self, graph: ChannelGraph) -> list[Part]: ...


@dataclass(frozen=True)
class Uniform:
    """Every channel that may go costs 1, wherever it is."""

    name: str = "uniform"
    unit: str = "channels"
    step: int = _STEP

    def parts(self, graph: ChannelGraph) -> list[Part]:
        return [
            Part(", ".join(block.layers), (np.array(block.units, np.int64),), lambda counts: counts[0])
            for block in graph.blocks
        ]


@dataclass(frozen=True)
class Parameters:
    """Weights, batch-norm statistics included: what the file's size and the memory traffic follow."""

    name: str = "parameters"
    unit: str = "parameters"
    step: int = _STEP

    def parts(self, graph: ChannelGraph) -> list[Part]:
        cut: dict[tuple[str, int], list[WeightAxis]] = defaultdict(list)
        for axis in graph.axes:
            cut[axis.layer, axis.weight].append(axis)
        parts = []
        for (layer, weight), axes in cut.items():
            shape = graph.weight_shapes[layer][weight]
            others = math.prod(size for place, size in enumerate(shape) if place not in {axis.axis for axis in axes})
            parts.append(Part(layer, tuple(axis.units for axis in axes), _product(others)))
        whole = sum(
            math.prod(shape)
            for layer, shapes in graph.weight_shapes.items()
            for weight, shape in enumerate(shapes)
            if (layer, weight) not in cut
        )
        return [*parts, Part("", (), _product(whole))]


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates per sample: easy to count, and a poor guess of the time."""

    name: str = "macs"
    unit: str = "multiply-accumulates"
    step: int = _STEP

    def parts(self, graph: ChannelGraph) -> list[Part]:
        return [Part(term.layer, (term.inputs, term.outputs), _product(term.factor)) for term in graph.mac_terms]


def _product(factor: int) -> Callable[[tuple[int, ...]], float]:
    return lambda counts: factor * math.prod(counts)


COUNTED: dict[str, Callable[[], Cost]] = {"uniform": Uniform, "parameters": Parameters, "macs": Macs}
"""The costs that need no measuring, by the name a recipe gives them."""
