"""Choose which units go: the least important per multiply-accumulate saved, in hardware-sized steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.prune.graph import Block, BoolArray, ChannelGraph

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Width:
    """The width of one block before and after."""

    layers: tuple[str, ...]
    before: int
    after: int


@dataclass(frozen=True)
class Selection:
    """The units that stay, and what that makes of the model."""

    kept: tuple[int, ...]
    widths: tuple[Width, ...]
    macs_before: int
    macs_after: int
    params_before: int
    params_after: int
    target_macs: int

    @property
    def reached(self) -> bool:
        """Say whether the MAC target was met; limits per layer can make it unreachable."""
        return self.macs_after <= self.target_macs

    def mask(self, graph: ChannelGraph) -> BoolArray:
        """Return the kept units as a mask over all units of the graph."""
        mask = np.zeros(graph.unit_count, dtype=np.bool_)
        mask[list(self.kept)] = True
        return mask

    def summary(self) -> dict[str, Any]:
        """Return the figures a report needs, as plain JSON values."""
        return {
            "macs_before": self.macs_before,
            "macs_after": self.macs_after,
            "macs_kept": self.macs_after / self.macs_before if self.macs_before else 1.0,
            "target_macs": self.target_macs,
            "target_reached": self.reached,
            "params_before": self.params_before,
            "params_after": self.params_after,
            "units_kept": len(self.kept),
            "widths": [
                {"layers": list(width.layers), "before": width.before, "after": width.after}
                for width in self.widths
            ],
        }


def select(
    graph: ChannelGraph,
    importance: npt.NDArray[Any],
    keep_macs: float,
    round_to: int = 8,
    min_channels: int = 8,
    max_layer_cut: float = 0.75,
) -> Selection:
    """Remove chunks of channels until at most ``keep_macs`` (0..1) of the MACs are left, or nothing may go.

    importance: (units,). Every step takes the chunk, down to the next multiple of ``round_to`` of some block,
    with the least sum of importance per MAC saved; ties go to the earlier block. No block falls below
    ``min_channels`` (rounded up to ``round_to``) or loses over ``max_layer_cut`` of its width; blocks that
    are narrower already are left alone.
    """
    costs = _Costs(graph)
    order = [_by_importance(block, importance) for block in graph.blocks]
    left = np.array([len(block.units) for block in graph.blocks], dtype=np.int64)
    floors = [_floor(int(width), round_to, min_channels, max_layer_cut) for width in left]
    before = costs.macs(left)
    target = math.floor(keep_macs * before)
    current = before
    while current > target:
        step = _cheapest_step(costs, left, floors, order, importance, round_to, current)
        if step is None:
            break
        block, current = step
        left[block] = _next_width(int(left[block]), round_to, floors[block])
    kept = sorted(
        unit
        for units, width in zip(order, left.tolist(), strict=True)
        for unit in units[len(units) - width :]
    )
    widths = tuple(
        Width(block.layers, len(block.units), width)
        for block, width in zip(graph.blocks, left.tolist(), strict=True)
    )
    mask = np.zeros(graph.unit_count, dtype=np.bool_)
    mask[kept] = True
    return Selection(
        kept=tuple(kept),
        widths=widths,
        macs_before=before,
        macs_after=graph.macs(mask),
        params_before=graph.params(),
        params_after=graph.params(mask),
        target_macs=target,
    )


def _cheapest_step(
    costs: _Costs,
    left: npt.NDArray[np.int64],
    floors: list[int],
    order: list[list[int]],
    importance: npt.NDArray[Any],
    round_to: int,
    current: int,
) -> tuple[int, int] | None:
    """Return the block whose next chunk is cheapest and the MACs after it, or None where nothing may go."""
    best: tuple[float, int, int] | None = None
    for block, width in enumerate(left.tolist()):
        narrower = _next_width(width, round_to, floors[block])
        if narrower >= width:
            continue
        removed = order[block][len(order[block]) - width : len(order[block]) - narrower]
        tried = left.copy()
        tried[block] = narrower
        macs = costs.macs(tried)
        if macs >= current:
            continue
        score = float(np.sum(importance[removed], dtype=np.float64)) / (current - macs)
        if best is None or score < best[0]:
            best = (score, block, macs)
    return None if best is None else best[1:]


def _by_importance(block: Block, importance: npt.NDArray[Any]) -> list[int]:
    """Order the units of a block from the least to the most important; equal ones by number."""
    return sorted(block.units, key=lambda unit: (float(importance[unit]), unit))


def _floor(width: int, round_to: int, min_channels: int, max_layer_cut: float) -> int:
    """Return the least width a block may get; never more than it has."""
    least = max(min_channels, math.ceil((1.0 - max_layer_cut) * width - 1e-9), 1)
    return min(width, math.ceil(least / round_to) * round_to)


def _next_width(width: int, round_to: int, floor: int) -> int:
    """Return the next multiple of ``round_to`` below a width, but not below its floor."""
    return max((width - 1) // round_to * round_to, floor)


class _Costs:
    """MACs as a function of block widths: units of a block are interchangeable, so counts suffice."""

    def __init__(self, graph: ChannelGraph) -> None:
        block_of = np.full(graph.unit_count + 1, -1, dtype=np.int64)  # the last entry serves unit -1
        for index, block in enumerate(graph.blocks):
            block_of[list(block.units)] = index
        sizes = np.array([len(block.units) for block in graph.blocks], dtype=np.int64)

        def per_unit(units: npt.NDArray[np.int64]) -> tuple[int, npt.NDArray[np.int64]]:
            blocks = block_of[units]
            counts = np.bincount(blocks[blocks >= 0], minlength=len(sizes))
            return int(np.count_nonzero(blocks < 0)), counts // np.maximum(sizes, 1)

        self._factor = [term.factor for term in graph.mac_terms]
        inputs = [per_unit(term.inputs) for term in graph.mac_terms]
        outputs = [per_unit(term.outputs) for term in graph.mac_terms]
        shape = (len(self._factor), len(sizes))
        self._fixed_in = np.array([fixed for fixed, _ in inputs], dtype=np.int64)
        self._fixed_out = np.array([fixed for fixed, _ in outputs], dtype=np.int64)
        self._per_in = np.array([counts for _, counts in inputs], dtype=np.int64).reshape(shape)
        self._per_out = np.array([counts for _, counts in outputs], dtype=np.int64).reshape(shape)
        self._factors = np.array(self._factor, dtype=np.int64)

    def macs(self, widths: npt.NDArray[np.int64]) -> int:
        inputs = self._fixed_in + self._per_in @ widths
        outputs = self._fixed_out + self._per_out @ widths
        return int(np.sum(self._factors * inputs * outputs))
