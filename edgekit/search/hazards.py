"""Quantize also what often loses too much in int8, where it does not here and the runtime gains."""

from __future__ import annotations

import math

from edgekit.quantize.kernels import SCHEMES
from edgekit.search.journal import Journal
from edgekit.search.problem import HAZARD, SENSITIVE
from edgekit.search.ranking import rank_hazards

_SLOWER = 1.1


def dare(journal: Journal) -> None:
    """Try all hazardous ops in int8, then fewer and fewer of the less harmful; keep what is clearly faster."""
    if not journal.reached:
        return
    kept = journal.kept
    base, plan, decide = kept.base, kept.plan, journal.problem.decide
    left = {item.op: item.reason for item in plan.decisions if item.reason == SENSITIVE}
    risky, floats = SCHEMES[plan.scheme].hazards, plan.ops("float32")
    daring = decide(base, left, True)
    hazards = [item.op for item in daring.decisions if item.kind in risky and item.precision != "float32"]
    hazards = [op for op in hazards if op in floats]
    for count in (len(hazards), 3 * len(hazards) // 4, len(hazards) // 2, len(hazards) // 4):
        if not count or journal.out_of_time():
            return
        if count < len(hazards):
            hazards = rank_hazards(journal, base, left, hazards)
        daring = decide(base, left | dict.fromkeys(hazards[count:], HAZARD), True)
        loss = journal.attempt(f"{count} hazardous op{'s' if count > 1 else ''} int8 too", base, daring, keep=False)
        if count == len(hazards) and math.isfinite(loss):
            ratio = journal.speed_ratio(base, daring, kept)
            if ratio > _SLOWER:  # where all are, some are too
                journal.notes.append(f"hazardous ops in int8 take {ratio:.1f} times as long as in float")
                return
        if loss <= journal.target:
            if journal.is_faster(base, daring):
                journal.keep(base, daring, loss)
            return
