"""Choose which units go: the least important per unit of cost saved, in hardware-sized steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgekit.prune.channels.graph import Block, BoolArray, ChannelGraph
from edgekit.prune.selection.cost import Cost
from edgekit.prune.selection.ledger import Ledger
from edgekit.prune.selection.limits import largest_cuts


@dataclass(frozen=True)
class Width:
    """The width of one block before and after."""

    layers: tuple[str, ...]
    before: int
    after: int


@dataclass(frozen=True)
class Spent:
    """What the network costs before and after, and what it was to cost at most."""

    name: str
    unit: str
    before: float
    after: float
    target: float

    @property
    def share(self) -> float:
        return self.after / self.before if self.before else 1.0


@dataclass(frozen=True)
class Selection:
    """The units that stay, and what that makes of the model. ``loss``: the importance gone, of all there was."""

    kept: tuple[int, ...]
    widths: tuple[Width, ...]
    cost: Spent
    loss: float
    macs_before: int
    macs_after: int
    params_before: int
    params_after: int

    @property
    def reached(self) -> bool:
        """Say whether the target was met; limits per layer can make it unreachable."""
        return self.cost.after <= self.cost.target

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
            "cost": self.cost.name,
            "cost_unit": self.cost.unit,
            "cost_before": self.cost.before,
            "cost_after": self.cost.after,
            "cost_target": self.cost.target,
            "target_reached": self.reached,
            "importance_lost": self.loss,
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
    cost: Cost,
    keep: float,
    *,
    keep_of: Cost | None = None,
    round_to: int | Literal["auto"] = 8,
    min_channels: int = 8,
    max_layer_cut: float = 0.5,
    limits: Mapping[str, float] | None = None,
    protect: Sequence[str] = (),
) -> Selection:
    """Remove chunks of channels until at most ``keep`` (0..1) of the cost is left, or nothing may go.

    importance: (units,). Every step narrows some block to a lower multiple of ``round_to`` ("auto": the cost's
    own step), the one with the least sum of importance per ``cost`` saved; ties go to the earlier block. What
    the last step saved beyond the target is given back where possible. ``keep_of``: what ``keep`` is a share of,
    where that is another cost. No block falls below ``min_channels`` (rounded up to ``round_to``) or loses over
    ``max_layer_cut`` of its width, or what ``limits`` and ``protect`` say of its layers (``largest_cuts``);
    narrower blocks are left alone.
    """
    step = cost.step if round_to == "auto" else round_to
    cuts = largest_cuts(graph, max_layer_cut, limits or {}, protect)
    ladders = [
        _ladder(block, importance, step, min_channels, cut) for block, cut in zip(graph.blocks, cuts, strict=True)
    ]
    search = _Search(graph, cost, keep_of or cost, ladders, keep)
    search.descend()
    search.climb_back()
    left = [ladder.widths[rung] for ladder, rung in zip(ladders, search.rungs, strict=True)]
    kept = sorted(unit for ladder, width in zip(ladders, left, strict=True) for unit in ladder.units[-width:])
    mask = np.zeros(graph.unit_count, dtype=np.bool_)
    mask[kept] = True
    whole = float(np.sum(importance, dtype=np.float64))
    return Selection(
        kept=tuple(kept),
        widths=tuple(
            Width(block.layers, len(block.units), width) for block, width in zip(graph.blocks, left, strict=True)
        ),
        cost=search.spent(),
        loss=float(np.sum(importance[~mask], dtype=np.float64)) / whole if whole else 0.0,
        macs_before=graph.macs(),
        macs_after=graph.macs(mask),
        params_before=graph.params(),
        params_after=graph.params(mask),
    )


@dataclass(frozen=True)
class _Ladder:
    """The widths a block may have, widest first, and its units, least important first."""

    widths: tuple[int, ...]
    units: tuple[int, ...]
    lost: tuple[float, ...]  # summed importance of what is gone at each width


def _ladder(
    block: Block, importance: npt.NDArray[Any], round_to: int, min_channels: int, largest_cut: float
) -> _Ladder:
    units = sorted(block.units, key=lambda unit: (float(importance[unit]), unit))
    widths = [len(units)]
    if block.step is not None:
        round_to, min_channels = block.step, 1
    else:  # the settings count channels; a unit may be several of them (a group, an anchor's share)
        round_to //= math.gcd(round_to, block.channels)
        min_channels = math.ceil(min_channels / block.channels)
    floor = _floor(len(units), round_to, min_channels, largest_cut)
    while widths[-1] > floor:
        widths.append(max((widths[-1] - 1) // round_to * round_to, floor))
    lost = tuple(float(np.sum(importance[units[: len(units) - width]], dtype=np.float64)) for width in widths)
    return _Ladder(tuple(widths), tuple(units), lost)


def _floor(width: int, round_to: int, min_channels: int, largest_cut: float) -> int:
    """Return the least width a block may get; never more than it has."""
    least = max(min_channels, math.ceil((1.0 - largest_cut) * width - 1e-9), 1)
    return min(width, math.ceil(least / round_to) * round_to)


@dataclass(frozen=True, order=True)
class _Step:
    """One block to another rung of its ladder; the least is the best."""

    price: float
    block: int
    rung: int


class _Search:
    """Greedy descent to the target, with what each step would save kept up to date."""

    def __init__(self, graph: ChannelGraph, cost: Cost, target_cost: Cost, ladders: list[_Ladder], keep: float) -> None:
        self.ladders = ladders
        self.rungs = [0] * len(ladders)
        self._ledger = Ledger(graph, cost)
        self._target_ledger = self._ledger if target_cost is cost else Ledger(graph, target_cost)
        self._target_cost = target_cost
        self._before = self._target_ledger.total
        self._target = keep * self._before

    def spent(self) -> Spent:
        cost = self._target_cost
        return Spent(cost.name, cost.unit, self._before, self._target_ledger.total, self._target)

    def descend(self) -> None:
        """Take the cheapest step down, again and again, until the target is met or none saves anything."""
        steps = {block: self._best_down(block) for block in range(len(self.ladders))}
        while self._target_ledger.total > self._target:
            found = [step for step in steps.values() if step is not None]
            if not found:
                return
            best = min(found)
            for block in self._take(best):
                steps[block] = self._best_down(block)

    def climb_back(self) -> None:
        """Give chunks back while the target still holds: the last step down often overshoots by percents."""
        while True:
            room = self._target - self._target_ledger.total
            steps = [step for block in range(len(self.ladders)) for step in self._ups(block, room)]
            if room < 0 or not steps:
                return
            self._take(min(steps))

    def _best_down(self, block: int) -> _Step | None:
        """Return the lower rung with the least importance per cost; one may cost more than the one below it."""
        ladder, here = self.ladders[block], self.rungs[block]
        steps = []
        for rung in range(here + 1, len(ladder.widths)):
            saved = -self._ledger.change(block, ladder.widths[rung] - ladder.widths[here])
            if saved > 0:
                steps.append(_Step((ladder.lost[rung] - ladder.lost[here]) / saved, block, rung))
        return min(steps, default=None)

    def _ups(self, block: int, room: float) -> list[_Step]:
        ladder, here = self.ladders[block], self.rungs[block]
        steps = []
        for rung in range(here):
            channels = ladder.widths[rung] - ladder.widths[here]
            if self._target_ledger.change(block, channels) <= room:
                added = self._ledger.change(block, channels)
                gained = ladder.lost[here] - ladder.lost[rung]
                steps.append(_Step(-gained / added if added > 0 else -math.inf, block, rung))
        return steps

    def _take(self, step: _Step) -> set[int]:
        """Go there and return the blocks whose steps are worth something else now."""
        ladder = self.ladders[step.block]
        channels = ladder.widths[step.rung] - ladder.widths[self.rungs[step.block]]
        self.rungs[step.block] = step.rung
        self._ledger.move(step.block, channels)
        if self._target_ledger is not self._ledger:
            self._target_ledger.move(step.block, channels)
        return self._ledger.neighbours(step.block)
