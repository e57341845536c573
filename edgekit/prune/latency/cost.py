"""The cost of a network in milliseconds, predicted op by op from tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from edgekit.prune.channels.graph import ChannelGraph
from edgekit.prune.latency.grid import Grid, grid_of
from edgekit.prune.latency.ops import ops_of
from edgekit.prune.latency.shapes import Op
from edgekit.prune.latency.table import Table
from edgekit.prune.selection.cost import Part
from edgekit.prune.selection.ledger import total

Price = Callable[[tuple[int, ...]], float]


@dataclass(frozen=True)
class TableLatency:
    """Milliseconds at one place: the sum of the times of the ops."""

    table: Table
    largest_cut: float
    step: int
    name: str = "latency"
    unit: str = "ms"

    def parts(self, graph: ChannelGraph) -> list[Part]:
        ops = [(op, self._grid(op)) for op in ops_of(graph)]
        rate = self._ns_per_mac(ops)
        return [_part(op, cache(_priced(self.table, op, grid, rate))) for op, grid in ops]

    def _grid(self, op: Op) -> Grid | None:
        grid = grid_of(op, self.largest_cut)
        return grid if grid is not None and self.table.has(grid) else None

    def _ns_per_mac(self, ops: list[tuple[Op, Grid | None]]) -> float:
        """Return what a multiply-accumulate takes in the ops that were timed, for those that were not."""
        spent, macs = 0.0, 0
        for op, grid in ops:
            if grid is not None and op.terms:
                spent += self.table.time_ns(grid, len(op.inputs), len(op.outputs))
                macs += sum(term.factor * len(term.inputs) * len(term.outputs) for term in op.terms)
        return spent / macs if macs else 0.0


@dataclass(frozen=True)
class MeanLatency:
    """The mean over places of the time as a share of the unpruned network's: what several targets ship together."""

    places: tuple[TableLatency, ...]
    name: str = "latency"
    unit: str = "of the unpruned model's time"

    @cached_property
    def step(self) -> int:
        return min(place.step for place in self.places)

    def parts(self, graph: ChannelGraph) -> list[Part]:
        everywhere = graph.all_kept()
        places = [place.parts(graph) for place in self.places]
        weights = [1 / (total(parts, everywhere) or math.inf) / len(places) for parts in places]
        return [
            Part(same[0].layer, same[0].vectors, _weighted([part.price for part in same], weights))
            for same in zip(*places, strict=True)
        ]


def _part(op: Op, price: Price) -> Part:
    if op.shape is None:
        vectors = [vector for term in op.terms for vector in (term.inputs, term.outputs)]
        return Part(op.layer, tuple(vectors), price)
    return Part(op.layer, (op.inputs, op.outputs) if op.shape.wide else (op.outputs,), price)


def _priced(table: Table, op: Op, grid: Grid | None, ns_per_mac: float) -> Price:
    if grid is not None and grid.shape.wide:
        return lambda counts: table.time_ns(grid, counts[0], counts[1]) / 1e6
    if grid is not None:
        return lambda counts: table.time_ns(grid, 0, counts[0]) / 1e6
    factors = [term.factor for term in op.terms]
    if op.shape is None:
        pairs = range(0, 2 * len(factors), 2)
        return lambda counts: (
            ns_per_mac / 1e6 * sum(f * counts[i] * counts[i + 1] for f, i in zip(factors, pairs, strict=True))
        )
    if op.shape.wide:
        return lambda counts: ns_per_mac / 1e6 * sum(factors) * counts[0] * counts[1]
    return lambda counts: ns_per_mac / 1e6 * sum(factors) * counts[0]


def _weighted(prices: Sequence[Price], weights: Sequence[float]) -> Price:
    """Return the weighted sum; a search asks for the same widths over and over."""
    return cache(lambda counts: sum(price(counts) * weight for price, weight in zip(prices, weights, strict=True)))
