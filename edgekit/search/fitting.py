"""Fit the model to its plan: biases that take back a shift, weights rounded for their outputs, fewer ops float."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from edgekit.errors import StageError
from edgekit.quantize.plan import Plan
from edgekit.search.journal import Journal
from edgekit.search.problem import Base

BIASES = "biases corrected"
_SHARE = 1 / 3  # of the time that is left, for one repair: two phases are still to come
ROUNDING = "weights rounded for their outputs, biases corrected"


def fit(journal: Journal, base: Base, float_units: int, without: Callable[[int], Plan], sizes: Sequence[int]) -> None:
    """Correct the biases of the best plan; where that left ops float or misses the target, choose roundings too.

    With what helped, try fewer units float: ``without(n)`` is the plan that leaves the n worst float, ``sizes`` are
    the n worth trying and ``float_units`` the n of the best plan. ``base`` is what they were ranked on.
    """
    kept = journal.kept
    kinds = [False] if journal.reached and not float_units else [False, True]
    losses = {rounding: _attempt(journal, kept.base, kept.plan, rounding, "") for rounding in kinds}
    measured = {rounding: loss for rounding, loss in losses.items() if loss is not None}
    if not measured or not float_units or not journal.reached:
        return
    best = min(measured, key=lambda rounding: measured[rounding])
    for count in sorted((size for size in sizes if size < float_units), reverse=True):
        plan = without(count)
        loss = _attempt(journal, base, plan, best, f"{count} unit{'s' if count != 1 else ''} float, ")
        if loss is None or loss > journal.target:
            return


def _attempt(journal: Journal, base: Base, plan: Plan, rounding: bool, label: str) -> float | None:
    """Refine and try; keep it if it loses less, or reaches the target with fewer ops float."""
    if journal.out_of_time():
        return None
    what = label + (ROUNDING if rounding else BIASES)
    journal.tell(what)
    try:
        refined = journal.problem.refine(base, plan, rounding, journal.allowance(_SHARE))
    except StageError as error:
        journal.refuse(what, plan, error.message)
        return None
    if refined is None:
        return None
    before = journal.kept
    loss = journal.attempt(what, refined, plan)
    if label and loss <= journal.target:
        journal.keep(refined, plan, loss)
    if journal.kept is not before:
        shown = f"{before.loss:.4f} to {loss:.4f}"
        journal.notes.append(f"{what}: the loss of agreement went from {shown}")
    return loss
