"""Quantize also what often loses too much in int8, where it does not here and the runtime gains."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.quantize.kernels import SCHEMES
from edgekit.search.journal import Journal
from edgekit.search.problem import HAZARD, SENSITIVE, Base
from edgekit.search.ranking import rank_hazards


def dare(journal: Journal) -> None:
    """Try all hazardous ops in int8, then fewer and fewer of the less harmful; keep what is clearly faster."""
    if not journal.reached:
        return
    kept = journal.kept
    base, plan, decide = kept.base, kept.plan, journal.problem.decide
    left: dict[str, str] = {item.op: item.reason for item in plan.decisions if item.reason == SENSITIVE}
    risky, floats = SCHEMES[plan.scheme].hazards, plan.ops("float32")
    daring = decide(base, left, True)
    hazards = [item.op for item in daring.decisions if item.kind in risky and item.precision != "float32"]
    hazards = [op for op in hazards if op in floats]
    if not hazards or journal.out_of_time() or _try(journal, base, left, hazards, len(hazards)):
        return
    if not journal.is_faster(base, daring):  # nor would fewer of them be
        kinds = ", ".join(sorted({item.kind for item in daring.decisions if item.op in hazards}))
        journal.notes.append(f"{kinds} in int8 would gain too little in this runtime, and stays float")
        return
    ranked = rank_hazards(journal, base, left, hazards)
    for count in (3 * len(ranked) // 4, len(ranked) // 2, len(ranked) // 4):
        if not count or journal.out_of_time() or _try(journal, base, left, ranked, count):
            return


def _try(journal: Journal, base: Base, left: dict[str, str], hazards: Sequence[str], count: int) -> bool:
    """Try the first ``count`` in int8 too; tell whether they lose little enough, and keep them if also faster."""
    daring = journal.problem.decide(base, left | dict.fromkeys(hazards[count:], HAZARD), True)
    loss = journal.attempt(f"{count} hazardous op{'s' if count > 1 else ''} int8 too", base, daring, keep=False)
    if loss > journal.target:
        return False
    if journal.is_faster(base, daring):
        journal.keep(base, daring, loss)
    return True
