"""What can be removed of a network, what must go together, and what it saves; whatever kind of file it is.

A *unit* is one decision: all channels, in all layers, that exist or vanish together. A *block* is a set of
units that sit at the same places and are therefore interchangeable; widths are rounded per block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgekit.prune.channels.coupling import IntArray
from edgekit.prune.channels.recorder import Path, Shape

Role = Literal["out", "in", "scale", "through"]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class WeightAxis:
    """One axis of one weight whose positions are channels; ``units[i]`` is -1 where position i always stays.

    role: "out" the layer makes these channels, "in" it reads them (zeroing the rows removes the channel),
    "scale" batch-norm gamma, "through" any other per-channel weight.
    """

    layer: str
    weight: int
    axis: int
    role: Role
    units: IntArray


@dataclass(frozen=True, eq=False)
class ConfigField:
    """A number in a layer's entry of the model's config that counts channels, and the path to it."""

    layer: str
    path: Path
    units: IntArray


@dataclass(frozen=True, eq=False)
class ConfigConstant:
    """An array in a layer's entry of the model's config; one of its axes has a value per channel."""

    layer: str
    path: Path
    axis: int
    units: IntArray


@dataclass(frozen=True, eq=False)
class MacTerm:
    """Multiply-accumulates of one call: ``factor`` x kept inputs x kept outputs."""

    layer: str
    factor: int
    inputs: IntArray
    outputs: IntArray

    def count(self, kept: BoolArray) -> int:
        return self.factor * count_kept(self.inputs, kept) * count_kept(self.outputs, kept)


@dataclass(frozen=True, eq=False)
class Flowing:
    """A tensor that an operation reads or makes: its shape, batch first, and the unit of each channel of ``axis``."""

    shape: Shape
    units: IntArray
    axis: int = -1


@dataclass(frozen=True, eq=False)
class Operated:
    """One call of one operation, and which of ``ChannelGraph.mac_terms`` are its.

    operation: None where it runs for every step of a sequence (TimeDistributed): its shapes are those of one.
    """

    layer: str
    operation: Any
    inputs: tuple[Flowing, ...]
    outputs: tuple[Flowing, ...]
    terms: range


@dataclass(frozen=True)
class Block:
    """Interchangeable units, in channel order, and the layers that produce them.

    step: round what stays to multiples of this, and keep at least one, whatever the settings (attention heads,
    of which 1 is a whole matrix); None where the settings decide.
    channels: how many channels of one layer a unit stands for at most (1, or more for groups and anchors).
    """

    layers: tuple[str, ...]
    units: tuple[int, ...]
    step: int | None = None
    channels: int = 1


@dataclass(frozen=True, eq=False)
class Normalization:
    """A layer whose mean and variance run over the channels ``units``."""

    layer: str
    units: IntArray


@dataclass(frozen=True)
class Frozen:
    """A layer whose output width stays, and why."""

    layer: str
    reason: str


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """Everything pruning needs to know about a model; it refers to layers by key (``outer/inner/name``)."""

    unit_count: int
    blocks: tuple[Block, ...]
    frozen: tuple[Frozen, ...]
    axes: tuple[WeightAxis, ...]
    fields: tuple[ConfigField, ...]
    constants: tuple[ConfigConstant, ...]
    mac_terms: tuple[MacTerm, ...]
    weight_shapes: dict[str, tuple[tuple[int, ...], ...]]
    calls: tuple[Operated, ...]
    normalizations: tuple[Normalization, ...] = ()

    def all_kept(self) -> BoolArray:
        return np.ones(self.unit_count, dtype=np.bool_)

    def macs(self, kept: BoolArray | None = None) -> int:
        """Count multiply-accumulates per sample with the units of the mask ``kept`` (all by default)."""
        mask = self.all_kept() if kept is None else kept
        return sum(term.count(mask) for term in self.mac_terms)

    def macs_per_layer(self, kept: BoolArray | None = None) -> dict[str, int]:
        mask = self.all_kept() if kept is None else kept
        totals: dict[str, int] = {}
        for term in self.mac_terms:
            totals[term.layer] = totals.get(term.layer, 0) + term.count(mask)
        return totals

    def params(self, kept: BoolArray | None = None) -> int:
        """Count weights, batch-norm statistics included, with the units of ``kept`` (all by default)."""
        mask = self.all_kept() if kept is None else kept
        sizes = {layer: [list(shape) for shape in shapes] for layer, shapes in self.weight_shapes.items()}
        for axis in self.axes:
            sizes[axis.layer][axis.weight][axis.axis] = count_kept(axis.units, mask)
        return sum(math.prod(shape) for shapes in sizes.values() for shape in shapes)


def count_kept(units: IntArray, kept: BoolArray) -> int:
    """Count the positions of a channel vector that stay (-1 always does)."""
    return int(np.count_nonzero(stays(units, kept)))


def stays(units: IntArray, kept: BoolArray) -> BoolArray:
    """Say for every position of a channel vector whether it stays."""
    if kept.size == 0:
        return np.ones(units.shape, dtype=np.bool_)
    return (units < 0) | kept[np.maximum(units, 0)]
