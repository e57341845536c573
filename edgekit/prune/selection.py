"""Choose which units go: the least important per multiply-accumulate saved, in hardware-sized steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.prune.graph import Block, BoolArray, ChannelGraph


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
                {"layers": list(width.layers), "before": width.before, "after": width.after} for width in self.widths
            ],
        }


def select(
    graph: ChannelGraph,
    importance: npt.NDArray[Any],
    keep_macs: float,
    round_to: int = 8,
    min_channels: int = 8,
    max_layer_cut: float = 0.5,
) -> Selection:
    """Remove chunks of channels until at most ``keep_macs`` (0..1) of the MACs are left, or nothing may go.

    importance: (units,). Every step takes the chunk, down to the next multiple of ``round_to`` of some block,
    with the least sum of importance per MAC saved; ties go to the earlier block. What the last step saved
    beyond the target is given back where possible. No block falls below ``min_channels`` (rounded up to
    ``round_to``) or loses over ``max_layer_cut`` of its width; narrower blocks are left alone.
    """
    costs = _Costs(graph)
    ladders = [_ladder(block, importance, round_to, min_channels, max_layer_cut) for block in graph.blocks]
    before = costs.macs([ladder.widths[0] for ladder in ladders])
    target = math.floor(keep_macs * before)
    rungs = _descend(costs, ladders, target)
    rungs = _climb_back(costs, ladders, rungs, target)
    left = [ladder.widths[rung] for ladder, rung in zip(ladders, rungs, strict=True)]
    kept = sorted(unit for ladder, width in zip(ladders, left, strict=True) for unit in ladder.units[-width:])
    widths = tuple(
        Width(block.layers, len(block.units), width) for block, width in zip(graph.blocks, left, strict=True)
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


@dataclass(frozen=True)
class _Ladder:
    """The widths a block may have, widest first, and its units, least important first."""

    widths: tuple[int, ...]
    units: tuple[int, ...]
    losses: tuple[float, ...]  # summed importance of the chunk between a width and the next


def _ladder(
    block: Block, importance: npt.NDArray[Any], round_to: int, min_channels: int, max_layer_cut: float
) -> _Ladder:
    units = sorted(block.units, key=lambda unit: (float(importance[unit]), unit))
    widths = [len(units)]
    floor = _floor(len(units), round_to, min_channels, max_layer_cut)
    while widths[-1] > floor:
        widths.append(max((widths[-1] - 1) // round_to * round_to, floor))
    losses = tuple(
        float(np.sum(importance[units[len(units) - wide : len(units) - narrow]], dtype=np.float64))
        for wide, narrow in pairwise(widths)
    )
    return _Ladder(tuple(widths), tuple(units), losses)


def _floor(width: int, round_to: int, min_channels: int, max_layer_cut: float) -> int:
    """Return the least width a block may get; never more than it has."""
    least = max(min_channels, math.ceil((1.0 - max_layer_cut) * width - 1e-9), 1)
    return min(width, math.ceil(least / round_to) * round_to)


def _descend(costs: _Costs, ladders: list[_Ladder], target: int) -> list[int]:
    """Take the cheapest next chunk, again and again, until the target is met or no chunk is left."""
    rungs = [0] * len(ladders)
    current = costs.macs([ladder.widths[0] for ladder in ladders])
    while current > target:
        steps = []
        for block, ladder in enumerate(ladders):
            if rungs[block] < len(ladder.losses):
                macs = costs.macs(_moved(ladders, rungs, block, +1))
                if macs < current:
                    steps.append((ladder.losses[rungs[block]] / (current - macs), block, macs))
        if not steps:
            break
        _, block, current = min(steps)
        rungs[block] += 1
    return rungs


def _climb_back(costs: _Costs, ladders: list[_Ladder], rungs: list[int], target: int) -> list[int]:
    """Give chunks back while the target still holds: the last step down often overshoots by percents."""
    current = costs.macs(_moved(ladders, rungs, 0, 0)) if ladders else 0
    while True:
        steps = []
        for block, ladder in enumerate(ladders):
            if rungs[block] > 0:
                macs = costs.macs(_moved(ladders, rungs, block, -1))
                if current < macs <= target:
                    steps.append((-ladder.losses[rungs[block] - 1] / (macs - current), block, macs))
        if not steps:
            return rungs
        _, block, current = min(steps)
        rungs = [rung - (index == block) for index, rung in enumerate(rungs)]


def _moved(ladders: list[_Ladder], rungs: list[int], block: int, step: int) -> list[int]:
    return [
        ladder.widths[rung + (step if index == block else 0)]
        for index, (ladder, rung) in enumerate(zip(ladders, rungs, strict=True))
    ]


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

        inputs = [per_unit(term.inputs) for term in graph.mac_terms]
        outputs = [per_unit(term.outputs) for term in graph.mac_terms]
        shape = (len(graph.mac_terms), len(sizes))
        self._fixed_in = np.array([fixed for fixed, _ in inputs], dtype=np.int64)
        self._fixed_out = np.array([fixed for fixed, _ in outputs], dtype=np.int64)
        self._per_in = np.array([counts for _, counts in inputs], dtype=np.int64).reshape(shape)
        self._per_out = np.array([counts for _, counts in outputs], dtype=np.int64).reshape(shape)
        self._factors = np.array([term.factor for term in graph.mac_terms], dtype=np.int64)

    def macs(self, widths: list[int]) -> int:
        vector = np.array(widths, dtype=np.int64)
        inputs = self._fixed_in + self._per_in @ vector
        outputs = self._fixed_out + self._per_out @ vector
        return int(np.sum(self._factors * inputs * outputs))
