"""Which amounts are cut and made: the one a recipe gives, the one that is predicted to be fast enough, or a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from edgekit.progress import Progress
from edgekit.prune import amount
from edgekit.prune.channel_graph import ChannelGraph
from edgekit.prune.cost import Cost
from edgekit.prune.latency.aim import largest_share_for
from edgekit.prune.selection import Selection


class Made(Protocol):
    """A network cut to a share of the multiply-accumulates. ``drop_points``: None where nothing judges it."""

    @property
    def keep(self) -> float: ...

    @property
    def drop_points(self) -> float | None: ...

    @property
    def seconds(self) -> float: ...


M = TypeVar("M", bound=Made)


@dataclass(frozen=True)
class Search(Generic[M]):
    """``choice``: what stays for a share. ``make``: cut to it, repair, recover and judge, which takes the time."""

    graph: ChannelGraph
    cost: Cost
    choice: Callable[[float], Selection]
    make: Callable[[float, Progress], M]

    def given(self, settings: Mapping[str, Any], aim: Mapping[str, float | None]) -> float | None:
        """Return the share that ``settings["keep_macs"]`` names, or that is predicted to reach the aims in time.

        None where accuracy alone decides, so that amounts have to be tried.
        """
        if settings["keep_macs"] != "auto":
            return float(settings["keep_macs"])
        return largest_share_for(aim, self.cost, self.graph, self.choice)

    def by_accuracy(self, allowed_points: float, minutes: float, progress: Progress) -> list[M]:
        """Bisect the amount until the border of the accuracy budget is known, or the time is over.

        The time that counts is that of making the networks, so that a killed build decides as it would have. An
        empty list where nothing can be cut.
        """
        found: list[M] = []
        cuts = {self.graph.macs()}  # of what was tried: near the ends, two shares may leave the same channels, or all
        while (keep := amount.next_share([_probe(made) for made in found], allowed_points)) is not None:
            used = sum(made.seconds for made in found)
            left = self.choice(keep).macs_after
            if left in cuts or (found and used + found[-1].seconds > minutes * 60):
                break
            cuts.add(left)
            done = max(min(0.85, used / (minutes * 60)), 0.85 * (1 - 0.7 ** len(found)))
            found.append(self.make(keep, _part(progress, done, keep)))
        return found


def _part(progress: Progress, done: float, keep: float) -> Progress:
    return lambda share, text: progress(done + 0.1 * share, f"keeping {keep:.0%} of the multiply-accumulates: {text}")


def best(found: Sequence[M], allowed_points: float) -> M:
    """Return the smallest network that lost no more than allowed; where there is none, the one that lost the least."""
    probe = amount.best([_probe(made) for made in found], allowed_points)
    return next(made for made in found if made.keep == probe.keep)


def _probe(made: Made) -> amount.Probe:
    return amount.Probe(made.keep, made.drop_points if made.drop_points is not None else 0.0)
