"""The state of one search: what was tried, what is the best so far, how much time is left."""

from __future__ import annotations

import math
import time

from edgekit.progress import Progress
from edgekit.quantize.plan import Plan
from edgekit.search.problem import Base, Found, Kept, Problem, Tried, UnitError

_CLEARLY = 0.93
_TURNS = 3


class Journal:
    """Tries plans within a time and writes each down. The phases of a search share one.

    ``target``: the loss that is good enough. ``sensitivity``: what a ranking of units found, the worst first.
    """

    def __init__(self, problem: Problem, target: float, seconds: float, progress: Progress) -> None:
        self.problem, self.target, self.seconds, self.progress = problem, target, seconds, progress
        self.deadline = time.monotonic() + seconds
        self.log: list[Tried] = []
        self.notes: list[str] = []
        self.sensitivity: list[UnitError] = []
        self.complete = True
        self._best: Kept | None = None

    @property
    def kept(self) -> Kept:
        assert self._best is not None  # the first trial always sets it
        return self._best

    @property
    def reached(self) -> bool:
        return self.kept.loss <= self.target

    def found(self) -> Found:
        """Return what the search came to."""
        kept = self.kept
        return Found(
            kept.base, kept.plan, kept.loss, self.reached, self.complete, self.log, self.sensitivity, self.notes
        )

    def out_of_time(self) -> bool:
        """Tell whether the search has to end; asked only where there would be more to try."""
        if time.monotonic() > self.deadline:
            self.complete = False
        return time.monotonic() > self.deadline

    def allowance(self, share: float) -> float:
        """Return the clock at which that share of the time left will be over."""
        now = time.monotonic()
        return now + share * max(0.0, self.deadline - now)

    def tell(self, what: str) -> None:
        """Show what is under way, and how much of the time is gone."""
        left = max(0.0, self.deadline - time.monotonic())
        self.progress(1.0 - left / self.seconds, what)

    def attempt(self, what: str, base: Base, plan: Plan, *, keep: bool = True) -> float:
        """Run a plan and return its loss. ``keep`` the best so far, which the very first always is."""
        self.tell(what)
        trial = self.problem.run(base, plan, None)
        loss = math.inf if trial.refusal else self.problem.loss(trial)
        floats = sum(decision.precision == "float32" for decision in plan.decisions)
        self.log.append(Tried(what, floats, loss, trial.size_bytes, trial.refusal, trial.fastest_ms))
        if self._best is None or (keep and loss < self._best.loss):
            self._best = Kept(base, plan, loss)
        return loss

    def keep(self, base: Base, plan: Plan, loss: float) -> None:
        """Take a plan that was tried for the best, whatever the others lost."""
        self._best = Kept(base, plan, loss)

    def refuse(self, what: str, plan: Plan, reason: str) -> None:
        """Write down what could not even be tried."""
        floats = sum(decision.precision == "float32" for decision in plan.decisions)
        self.log.append(Tried(what, floats, math.inf, 0, reason))

    def challenge(self, what: str, base: Base, plan: Plan) -> tuple[Tried, float]:
        """Try a plan that has to beat the best in speed, at the target or no more loss; keep it if it clearly does.

        Returns its line of the log and its time over that of the best, by the fastest call of each.
        """
        current = self.kept
        loss = self.attempt(what, base, plan, keep=False)
        tried = self.log[-1]
        if tried.refusal:
            return tried, math.inf
        ratio = tried.fastest_ms / self.problem.run(current.base, current.plan, None).fastest_ms
        if ratio < 1 and loss <= max(self.target, current.loss):
            ratio = self.speed_ratio(base, plan, current)
            if ratio < _CLEARLY:
                self.keep(base, plan, loss)
        return tried, ratio

    def is_faster(self, base: Base, candidate: Plan) -> bool:
        """Tell whether a plan clearly beats the best. A close call goes to what is there, on every build alike."""
        return self.speed_ratio(base, candidate, self.kept) < _CLEARLY

    def speed_ratio(self, base: Base, candidate: Plan, current: Kept) -> float:
        """Time both in turns; return the candidate's fastest call over the current one's."""
        times = [math.inf, math.inf]
        for _ in range(_TURNS):
            for place, (model, plan) in enumerate(((base, candidate), (current.base, current.plan))):
                trial = self.problem.run(model, plan, None)
                times[place] = min(times[place], math.inf if trial.refusal else trial.fastest_ms)
        return times[0] / times[1]
