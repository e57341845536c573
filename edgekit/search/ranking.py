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
from edgekit.search.trial import Trial
from edgekit.search.units import Unit

_TIE = 0.0005  # losses closer than this are the same: the error decides
_Harm = tuple[float, float]  # loss of agreement, noise to signal
_UNKNOWN: _Harm = (-1.0, -1.0)


def rank_units(journal: Journal, base: Base, units: Sequence[Unit]) -> list[Unit]:
    """Return the units, the most harmful first; what there is no time for comes last."""
    problem = journal.problem
    reference = problem.run(base, None, None)
    harms: dict[str, _Harm] = {}
    for number, unit in enumerate(units):
        if time.monotonic() > journal.deadline - journal.seconds / 3:
            journal.complete = False
            break
        journal.progress(0.1 + 0.5 * number / len(units), f"sensitivity of {unit.kind} {number + 1} of {len(units)}")
        exclude = {op: "" for other in units if other is not unit for op in other.ops}
        harms[unit.name] = _harm(journal, base, problem.decide(base, exclude, False), reference)
    ranked = sorted(units, key=lambda unit: _order(harms.get(unit.name, _UNKNOWN)), reverse=True)
    journal.sensitivity = [UnitError(unit.name, unit.kind, *harms[unit.name]) for unit in ranked if unit.name in harms]
    return ranked


def rank_hazards(journal: Journal, base: Base, left: Mapping[str, str], hazards: Sequence[str]) -> list[str]:
    """Return hazardous ops, the least harmful first; ``left`` stays float throughout."""
    problem = journal.problem
    reference = problem.run(base, None, None)
    harms: dict[str, _Harm] = {}
    for number, op in enumerate(hazards):
        if journal.out_of_time():
            break
        journal.tell(f"sensitivity of hazardous op {number + 1} of {len(hazards)}")
        others = dict(left) | {other: HAZARD for other in hazards if other != op}
        harms[op] = _harm(journal, base, problem.decide(base, others, True), reference)
    return sorted(hazards, key=lambda op: _order(harms.get(op, (math.inf, math.inf))))


def _harm(journal: Journal, base: Base, plan: Plan, reference: Trial) -> _Harm:
    trial = journal.problem.run(base, plan, None)
    if trial.refusal:
        return math.inf, math.inf
    return journal.problem.loss(trial), noise_to_signal(reference, trial)


def _order(harm: _Harm) -> _Harm:
    loss, error = harm
    return (round(loss / _TIE) if math.isfinite(loss) else loss), error
