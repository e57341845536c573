"""Find the plan that keeps the float model's answers with the fewest ops left float.

Error is measured at the outputs, one unit quantized at a time: a tensor can look healthy by its own signal-to-noise
ratio and still ruin what comes after it. Anytime: at the deadline the best plan so far is the result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.progress import Progress
from edgekit.quantize.graph import Graph
from edgekit.quantize.kernels import SCHEMES
from edgekit.quantize.plan import Plan, Ranges
from edgekit.search.trial import Trial
from edgekit.search.units import Unit, units_of

Arrays = dict[str, npt.NDArray[Any]]
SENSITIVE = "costs accuracy in int8"
HAZARD = "loses too much in int8"
_CLEARLY = 0.93
_HIDDEN = 1.1
_TURNS = 3
_PROBES = 6  # samples that one unit's error is measured on
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


@dataclass(frozen=True)
class Tried:
    """One line of the search's log. ``loss``: 1 minus the agreement with the float model; inf: does not run."""

    what: str
    float_ops: int
    loss: float
    size_bytes: int
    refusal: str = ""
    fastest_ms: float = 0.0


@dataclass(frozen=True)
class UnitError:
    """What one unit does to the outputs when it alone is int8: noise-to-signal power of the worst output."""

    unit: str
    kind: str
    error: float


@dataclass
class Found:
    """The best plan, what it loses, and how it was found."""

    base: Base
    plan: Plan
    loss: float
    reached: bool
    complete: bool
    log: list[Tried] = field(default_factory=list)
    sensitivity: list[UnitError] = field(default_factory=list)


@dataclass(frozen=True)
class Base:
    """A float model, as it came or repaired without changing what it computes, with ranges for its tensors."""

    name: str
    model: Path
    graph: Graph
    ranges: Ranges


@dataclass(frozen=True)
class _Kept:
    """A plan with the model it is a plan of: ranges of one base mean nothing in another."""

    base: Base
    plan: Plan
    loss: float


@dataclass(frozen=True)
class Problem:
    """What the search works on.

    ``decide(base, exclude, hazards)`` makes a plan; ``run(base, plan, limit)`` tries it; ``loss(trial)`` judges it.
    ``bases``: what can be started from, the plainest first, each made only when it is needed.
    """

    decide: Callable[[Base, Mapping[str, str], bool], Plan]
    run: Callable[[Base, Plan | None, int | None], Trial]
    loss: Callable[[Trial], float]
    bases: Sequence[Callable[[], Base | None]]


def search(problem: Problem, target: float, seconds: float, progress: Progress) -> Found:
    """Return the best plan within ``seconds``: at most ``target`` loss with the fewest float ops, or the least loss."""
    return _Search(problem, target, time.monotonic() + seconds, seconds, progress).run()


class _Search:
    def __init__(self, problem: Problem, target: float, deadline: float, seconds: float, progress: Progress) -> None:
        self.problem, self.target, self.deadline, self.seconds = problem, target, deadline, seconds
        self.progress = progress
        self.log: list[Tried] = []
        self.sensitivity: list[UnitError] = []
        self.best: _Kept | None = None
        self.complete = True

    def run(self) -> Found:
        base = self._best_base()
        if self._kept().loss > self.target:
            self._leave_float(base)
        self._dare()
        self._shrink_float()
        kept = self._kept()
        reached = kept.loss <= self.target
        return Found(kept.base, kept.plan, kept.loss, reached, self.complete, self.log, self.sensitivity)

    def _kept(self) -> _Kept:
        assert self.best is not None  # the first trial always sets it
        return self.best

    def _out_of_time(self) -> bool:
        """Tell whether the search has to end; asked only where there would be more to try."""
        if time.monotonic() > self.deadline:
            self.complete = False
        return time.monotonic() > self.deadline

    def _try(self, what: str, base: Base, plan: Plan, keep: bool = True) -> float:
        left = max(0.0, self.deadline - time.monotonic())
        self.progress(1.0 - left / self.seconds, what)
        trial = self.problem.run(base, plan, None)
        loss = math.inf if trial.refusal else self.problem.loss(trial)
        floats = sum(decision.precision == "float32" for decision in plan.decisions)
        self.log.append(Tried(what, floats, loss, trial.size_bytes, trial.refusal, trial.fastest_ms))
        if self.best is None or (keep and loss < self.best.loss):
            self.best = _Kept(base, plan, loss)
        return loss

    def _best_base(self) -> Base:
        """Quantize everything from each base in turn, until one loses little enough; return the best.

        A later base is repaired further: where one culprit hides the difference, it is the better start.
        """
        best: Base | None = None
        for make in self.problem.bases:
            if best is not None and self._out_of_time():
                break
            base = make()
            if base is None:
                continue
            before = self.best.loss if self.best else math.inf
            loss = self._try(base.name, base, self.problem.decide(base, {}, False))
            if best is None or loss <= _HIDDEN * before:
                best = base
            if loss <= self.target:
                break
        assert best is not None  # the first base is always there
        return best

    def _leave_float(self, base: Base) -> None:
        """Leave the worst units float, as few as reach the target."""
        ranked = self._rank(base, units_of(base.graph, self.problem.decide(base, {}, False)))
        low, high = 0, None
        for count in [size for size in _SIZES if size < len(ranked)]:
            if self._out_of_time():
                return
            if self._try_without(base, ranked[:count]) <= self.target:
                high = count
                break
            low = count
        while high is not None and high - low > 1:
            if self._out_of_time():
                return
            middle = (low + high) // 2
            if self._try_without(base, ranked[:middle]) <= self.target:
                high = middle
            else:
                low = middle

    def _try_without(self, base: Base, units: Sequence[Unit]) -> float:
        exclude = {op: SENSITIVE for unit in units for op in unit.ops}
        label = f"{len(units)} unit{'s' if len(units) > 1 else ''} float"
        plan = self.problem.decide(base, exclude, False)
        loss = self._try(label, base, plan)
        if loss <= self.target:  # fewer float ops at the target are better than less loss
            self.best = _Kept(base, plan, loss)
        return loss

    def _rank(self, base: Base, units: Sequence[Unit]) -> list[Unit]:
        """Order units by the error each alone causes at the outputs; what there is no time for comes last."""
        reference = self.problem.run(base, None, _PROBES)
        errors: dict[str, float] = {}
        for number, unit in enumerate(units):
            if time.monotonic() > self.deadline - self.seconds / 3:
                self.complete = False
                break
            self.progress(0.1 + 0.5 * number / len(units), f"sensitivity of {unit.kind} {number + 1} of {len(units)}")
            exclude = {op: "" for other in units if other is not unit for op in other.ops}
            trial = self.problem.run(base, self.problem.decide(base, exclude, False), _PROBES)
            errors[unit.name] = math.inf if trial.refusal else noise_to_signal(reference, trial)
        self.sensitivity = sorted(
            (UnitError(unit.name, unit.kind, errors[unit.name]) for unit in units if unit.name in errors),
            key=lambda item: -item.error,
        )
        return sorted(units, key=lambda unit: -errors.get(unit.name, -1.0))

    def _dare(self) -> None:
        """Quantize also what often loses too much, where it does not here, if that is clearly faster."""
        kept = self._kept()
        base, plan = kept.base, kept.plan
        if kept.loss > self.target:
            return
        left = {item.op: item.reason for item in plan.decisions if item.reason == SENSITIVE}
        risky, quantized = SCHEMES[plan.scheme].hazards, _quantized(plan)
        daring = self.problem.decide(base, left, True)
        hazards = [item.op for item in daring.decisions if item.kind in risky and item.precision != "float32"]
        hazards = [op for op in hazards if op not in quantized]
        for keep in (len(hazards), 3 * len(hazards) // 4, len(hazards) // 2, len(hazards) // 4):
            if not keep or self._out_of_time():
                return
            if keep < len(hazards):
                hazards = self._least_harmful(base, left, hazards)
            daring = self.problem.decide(base, left | dict.fromkeys(hazards[keep:], HAZARD), True)
            loss = self._try(f"{keep} hazardous op{'s' if keep > 1 else ''} int8 too", base, daring, keep=False)
            if loss <= self.target:
                if self._is_faster(base, daring, plan):
                    self.best = _Kept(base, daring, loss)
                return

    def _least_harmful(self, base: Base, left: Mapping[str, str], hazards: list[str]) -> list[str]:
        """Order hazardous ops by the error each adds at the outputs, the smallest first."""
        reference = self.problem.run(base, None, _PROBES)
        errors: dict[str, float] = {}
        for op in hazards:
            if self._out_of_time():
                break
            others = dict(left) | {other: HAZARD for other in hazards if other != op}
            trial = self.problem.run(base, self.problem.decide(base, others, True), _PROBES)
            errors[op] = math.inf if trial.refusal else noise_to_signal(reference, trial)
        return sorted(hazards, key=lambda op: errors.get(op, math.inf))

    def _is_faster(self, base: Base, candidate: Plan, current: Plan) -> bool:
        """Time both in turns. Only a clear gain counts, so that the same build decides the same way again."""
        times = {True: math.inf, False: math.inf}
        for _ in range(_TURNS):
            for mine, plan in ((True, candidate), (False, current)):
                trial = self.problem.run(base, plan, None)
                times[mine] = min(times[mine], math.inf if trial.refusal else trial.fastest_ms)
        return times[True] < _CLEARLY * times[False]

    def _shrink_float(self) -> None:
        """Store the weights of what stayed float as int8, but for the most sensitive that cannot bear even that."""
        kept = self._kept()
        base, plan = kept.base, kept.plan
        if not SCHEMES[plan.scheme].unpacks_once:
            return
        weighted = {op.name for op in base.graph.ops if op.weighted and op.is_float}
        left = {item.op for item in plan.decisions if item.reason == SENSITIVE and item.op in weighted}
        ranked = [item.unit for item in self.sensitivity if item.unit in left]
        ranked += sorted(left - set(ranked))
        for spared in (0, 1, 2, 4, 8, 16):
            if spared >= len(ranked) or self._out_of_time():
                return
            smaller = _with_int8_weights(plan, frozenset(ranked[spared:]))
            what = "their weights int8" if not spared else f"their weights int8, but for {spared}"
            loss = self._try(what, base, smaller, keep=False)
            if loss <= max(self.target, kept.loss):
                self.best = _Kept(base, smaller, loss)
                return


def _with_int8_weights(plan: Plan, ops: frozenset[str]) -> Plan:
    decisions = (replace(item, precision="int8-weights") if item.op in ops else item for item in plan.decisions)
    return replace(plan, decisions=tuple(decisions))


def _quantized(plan: Plan) -> list[str]:
    return [item.op for item in plan.decisions if item.precision != "float32"]


def noise_to_signal(reference: Trial, trial: Trial) -> float:
    """Return the largest over outputs of mean squared error over the variance of the float output."""
    worst = 0.0
    for name in reference.outputs[0]:
        right = np.concatenate([made[name].astype(np.float64).ravel() for made in reference.outputs])
        got = np.concatenate([made[name].astype(np.float64).ravel() for made in trial.outputs])
        power = float(((right - right.mean()) ** 2).mean())
        worst = max(worst, float(((got - right) ** 2).mean()) / (power or 1.0))
    return worst
