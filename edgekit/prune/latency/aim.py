"""How much to cut so that a network is predicted to be as fast as a recipe's budgets ask."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from edgekit.prune.channels.graph import BoolArray, ChannelGraph
from edgekit.prune.latency.cost import MeanLatency, TableLatency
from edgekit.prune.selection.amount import largest_share
from edgekit.prune.selection.cost import Cost
from edgekit.prune.selection.greedy import Selection
from edgekit.prune.selection.ledger import total

_MARGIN = 1.05  # over the aim: what a prediction may be off


def largest_share_for(
    aim: Mapping[str, float | None], cost: Cost, graph: ChannelGraph, choice: Callable[[float], Selection]
) -> float | None:
    """Return the largest share that is predicted to reach ``aim["speedup"]`` (over float) and ``aim["latency_ms"]``.

    1 where the whole network does; None without these aims, and where nothing can be predicted. ``choice``: what
    stays, for a share.
    """
    whole = graph.all_kept()
    speedup = aim["speedup"] if predicted_speedup(cost, graph, whole) is not None else None
    limit = aim["latency_ms"] if predicted_ms(cost, graph, whole) is not None else None
    if speedup is None and limit is None:
        return None

    def reaches(keep: float) -> bool:
        kept = choice(keep).mask(graph)
        faster = speedup is None or (predicted_speedup(cost, graph, kept) or 0.0) >= speedup * _MARGIN
        return faster and (limit is None or (predicted_ms(cost, graph, kept) or math.inf) * _MARGIN <= limit)

    return 1.0 if reaches(1.0) else largest_share(reaches)


def predicted_speedup(cost: Cost, graph: ChannelGraph, kept: BoolArray) -> float | None:
    """Return how much faster than the float, unpruned network the fastest precision is predicted to be.

    Of several runtimes the least; None where none of them was timed in float too.
    """
    before: dict[tuple[str, str], float] = {}
    for place in cost.places if isinstance(cost, MeanLatency) else ():
        if place.table.place.precision == "float32":
            before[_where(place)] = total(place.parts(graph), graph.all_kept())
    after = _fastest_ms(cost, graph, kept)
    return min((before[where] / after[where] for where in before), default=None)


def predicted_ms(cost: Cost, graph: ChannelGraph, kept: BoolArray) -> float | None:
    """Return the milliseconds predicted for the fastest precision, of several runtimes the most; None without one."""
    return max(_fastest_ms(cost, graph, kept).values(), default=None)


def _fastest_ms(cost: Cost, graph: ChannelGraph, kept: BoolArray) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for place in cost.places if isinstance(cost, MeanLatency) else ():
        ms = total(place.parts(graph), kept)
        found[_where(place)] = min(ms, found.get(_where(place), ms))
    return found


def _where(place: TableLatency) -> tuple[str, str]:
    return place.table.place.device, place.table.place.format
