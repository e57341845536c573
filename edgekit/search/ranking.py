"""Order parts of a network by what each alone costs at the outputs.

A tensor can look healthy by its own signal-to-noise ratio and still ruin what comes after it. The task's own loss goes
first: a pixel of error in a box is nothing beside the variance of all boxes, and misses it all the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from edgekit.quantize.plan import Plan
from edgekit.search.journal import Journal
from edgekit.search.problem import HAZARD, Base, UnitError, noise_to_signal
from edgekit.search.units import Unit

_SHARE = 1 / 3  # of the time left, for errors and then for losses
_PROBES = 6  # samples that every unit's error is measured on
_TIE = 0.002  # losses closer than this are the same: the error decides
_HARMLESS = 10  # so many units in a row that lose nothing: the rest, whose errors are smaller, is taken to lose nothing


def rank_units(journal: Journal, base: Base, units: Sequence[Unit]) -> list[Unit]:
    """Return the units, the most harmful first; what there is no time for comes last.

    Every unit's error is measured on a few samples; then the task's loss on all, the largest errors first.
    """
    problem = journal.problem
    errors: dict[str, float] = {}
    losses: dict[str, float] = {}
    gains_ms: dict[str, float] = {}

    def alone(unit: Unit) -> Plan:
        return problem.decide(base, {op: "" for other in units if other is not unit for op in other.ops}, False)

    reference = problem.run(base, None, _PROBES)
    ends = journal.allowance(_SHARE)
    for number, unit in enumerate(units):
        if time.monotonic() > ends:
            journal.complete = False
            break
        journal.tell(f"sensitivity of {unit.kind} {number + 1} of {len(units)}")
        trial = problem.run(base, alone(unit), _PROBES)
        errors[unit.name] = math.inf if trial.refusal else noise_to_signal(reference, trial)
    float_ms = problem.run(base, None, None).fastest_ms
    ends = journal.allowance(_SHARE)
    for unit in sorted((unit for unit in units if unit.name in errors), key=lambda unit: -errors[unit.name]):
        harmless = len(losses) >= _HARMLESS and max(list(losses.values())[-_HARMLESS:]) < _TIE
        if harmless:
            break
        if time.monotonic() > ends:
            journal.complete = False
            break
        journal.tell(f"what {unit.kind} {unit.name.split(';')[-1]} costs")
        trial = problem.run(base, alone(unit), None)
        losses[unit.name] = math.inf if trial.refusal else problem.loss(trial)
        if not trial.refusal:
            gains_ms[unit.name] = float_ms - trial.fastest_ms
    ranked = sorted(units, key=lambda unit: (_steps(losses.get(unit.name, 0.0)), errors.get(unit.name, -1.0)))[::-1]
    journal.sensitivity = [
        UnitError(unit.name, unit.kind, losses.get(unit.name), errors[unit.name], gains_ms.get(unit.name))
        for unit in ranked
        if unit.name in errors
    ]
    return ranked


def rank_hazards(journal: Journal, base: Base, left: Mapping[str, str], hazards: Sequence[str]) -> list[str]:
    """Return hazardous ops, the least harmful first; ``left`` stays float throughout."""
    harms: dict[str, float] = {}
    for number, op in enumerate(hazards):
        if journal.out_of_time():
            break
        journal.tell(f"what hazardous op {number + 1} of {len(hazards)} costs")
        others = dict(left) | {other: HAZARD for other in hazards if other != op}
        harms[op] = _loss(journal, base, journal.problem.decide(base, others, True))
    return sorted(hazards, key=lambda op: harms.get(op, math.inf))


def _loss(journal: Journal, base: Base, plan: Plan) -> float:
    trial = journal.problem.run(base, plan, None)
    return math.inf if trial.refusal else journal.problem.loss(trial)


def _steps(loss: float) -> float:
    return round(loss / _TIE) if math.isfinite(loss) else loss
