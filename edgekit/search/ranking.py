"""Order parts of a network by the error each alone causes at the outputs.

A tensor can look healthy by its own signal-to-noise ratio and still ruin what comes after it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

from edgekit.search.journal import Journal
from edgekit.search.problem import HAZARD, Base, UnitError, noise_to_signal
from edgekit.search.units import Unit

_PROBES = 6  # samples that one unit's error is measured on


def rank_units(journal: Journal, base: Base, units: Sequence[Unit]) -> list[Unit]:
    """Return the units, the most harmful first; what there is no time for comes last."""
    problem = journal.problem
    reference = problem.run(base, None, _PROBES)
    errors: dict[str, float] = {}
    for number, unit in enumerate(units):
        if time.monotonic() > journal.deadline - journal.seconds / 3:
            journal.complete = False
            break
        journal.progress(0.1 + 0.5 * number / len(units), f"sensitivity of {unit.kind} {number + 1} of {len(units)}")
        exclude = {op: "" for other in units if other is not unit for op in other.ops}
        trial = problem.run(base, problem.decide(base, exclude, False), _PROBES)
        errors[unit.name] = math.inf if trial.refusal else noise_to_signal(reference, trial)
    journal.sensitivity = sorted(
        (UnitError(unit.name, unit.kind, errors[unit.name]) for unit in units if unit.name in errors),
        key=lambda item: -item.error,
    )
    return sorted(units, key=lambda unit: -errors.get(unit.name, -1.0))


def rank_hazards(journal: Journal, base: Base, left: Mapping[str, str], hazards: Sequence[str]) -> list[str]:
    """Return hazardous ops, the least harmful first; ``left`` stays float throughout."""
    problem = journal.problem
    reference = problem.run(base, None, _PROBES)
    errors: dict[str, float] = {}
    for op in hazards:
        if journal.out_of_time():
            break
        others = dict(left) | {other: HAZARD for other in hazards if other != op}
        trial = problem.run(base, problem.decide(base, others, True), _PROBES)
        errors[op] = math.inf if trial.refusal else noise_to_signal(reference, trial)
    return sorted(hazards, key=lambda op: errors.get(op, math.inf))
