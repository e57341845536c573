"""Which amounts are cut and made: the one a recipe gives, the one that is predicted to be fast enough, or a search."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from edgekit.progress import Progress
from edgekit.prune.channels.graph import ChannelGraph
from edgekit.prune.latency.aim import largest_share_for
from edgekit.prune.selection import amount
from edgekit.prune.selection.cost import Cost
from edgekit.prune.selection.greedy import Selection
from edgekit.prune.selection.limits import nothing_to_cut


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

    def idle(self, keep: float | None, settings: Mapping[str, Any], *, judged: bool) -> str:
        """Say why no channel is cut of a network whose amount is left to edgekit; empty where some will be.

        keep: what ``given`` found. judged: there are samples that amounts can be judged by.
        """
        if settings["keep_macs"] != "auto":
            return ""
        if self.choice(amount.FIRST).macs_after >= self.graph.macs():
            return nothing_to_cut(self.graph, settings).message
        if keep is None:
            few = "No channel was cut: too few samples to hold any apart; give more, or a share: keep_macs = 0.5"
            return "" if judged else few
        enough = "No channel was cut: the network is predicted to be as fast as the budget asks, as it is."
        return enough if self.choice(keep).macs_after >= self.graph.macs() else ""

    def by_accuracy(self, allowed_points: float, minutes: float, progress: Progress) -> list[M]:
        """Bisect the amount until the border of the accuracy budget is known, or the time is over.

        The time that counts is that of making the networks, so that a killed build decides as it would have. Only
        where something can be cut (``idle``), so that one network is made at least.
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
