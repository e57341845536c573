"""What the rules write down while channels flow through a graph."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edgekit.prune.channels.coupling import Channels, IntArray

Shape = tuple[int | None, ...]


Path = tuple[str | int, ...]
"""The way to a value in a layer's entry of the model's config: ("config", "filters")."""


class Flow(NamedTuple):
    """A tensor on its way: its shape, and one channel id per position of its channel axis (negative, from the end)."""

    shape: Shape
    ids: IntArray
    axis: int = -1


class AxisRecord(NamedTuple):
    role: Any
    ids: IntArray


@dataclass
class Recorder:
    """Collects weight axes, widths and costs. A place met twice (a shared layer) couples its channels."""

    channels: Channels = field(default_factory=Channels)
    axes: dict[tuple[str, int, int], AxisRecord] = field(default_factory=dict)
    fields: dict[tuple[str, Path], IntArray] = field(default_factory=dict)
    constants: dict[tuple[str, Path, int], IntArray] = field(default_factory=dict)
    produced: dict[str, IntArray] = field(default_factory=dict)
    macs: list[tuple[str, int, IntArray, IntArray]] = field(default_factory=list)
    calls: list[tuple[str, Any, list[Flow], list[Flow], range]] = field(default_factory=list)
    normalized: dict[str, IntArray] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=dict)  # by channel id: rounding of its own
    config: Path = ("config",)  # where the config of the layer is: in its wrapper's, where it has one
    times: int = 1  # calls per sample of a wrapped layer

    def axis(self, layer: str, weight: int, axis: int, role: str, ids: IntArray) -> None:
        """Record that the positions of one weight axis are the channels ``ids``."""
        known = self.axes.setdefault((layer, weight, axis), AxisRecord(role, ids))
        self.channels.couple(known.ids, ids)

    def field(self, layer: str, name: str, index: int | None, ids: IntArray) -> None:
        """Record that a number in a layer's config counts the channels ``ids``; dots lead into nested configs."""
        path = (*self.config, *(int(step) if step.isdigit() else step for step in name.split(".")))
        self.number(layer, path if index is None else (*path, index), ids)

    def number(self, layer: str, path: Path, ids: IntArray) -> None:
        """Record that a number anywhere in a layer's entry counts the channels ``ids``."""
        self.channels.couple(self.fields.setdefault((layer, path), ids), ids)

    def constant(self, layer: str, path: Path, axis: int, ids: IntArray) -> None:
        """Record that one axis of an array in a layer's entry holds a value for each of the channels ``ids``."""
        self.channels.couple(self.constants.setdefault((layer, path, axis), ids), ids)

    def has_field(self, layer: str, name: str) -> bool:
        return (layer, (*self.config, name)) in self.fields

    def is_read(self, layer: str) -> bool:
        """Say whether an earlier call of the layer recorded which channels its kernel reads."""
        return any(key[0] == layer and record.role == "in" for key, record in self.axes.items())

    def produce(self, layer: str, count: int, step: int | None = None) -> IntArray:
        """Return the channels a layer makes: the same ones in each of its calls.

        step: round the number of those that stay to its multiples, whatever the settings (attention heads: 1).
        """
        if layer not in self.produced:
            self.produced[layer] = self.channels.fresh(count)
            if step is not None:
                self.steps.update(dict.fromkeys(self.produced[layer].tolist(), step))
        return self.produced[layer]

    def normalize(self, layer: str, ids: IntArray) -> None:
        """Record that a layer normalizes across the channels ``ids``, so that each depends on all others."""
        self.channels.couple(self.normalized.setdefault(layer, ids), ids)

    def cost(self, layer: str, factor: int, inputs: IntArray | None, outputs: IntArray | None) -> None:
        """Record ``factor`` x inputs x outputs multiply-accumulates; None stands for one fixed channel."""
        fixed = self.channels.fresh(1)
        self.channels.freeze(fixed, "is a constant of the cost")
        self.macs.append(
            (layer, factor * self.times, fixed if inputs is None else inputs, fixed if outputs is None else outputs)
        )


def positions(shape: Shape) -> int:
    """Count the spatial positions of a (batch, ..., channels) tensor; unknown sizes count as 1."""
    return math.prod(size or 1 for size in shape[1:-1])
