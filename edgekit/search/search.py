"""Find the plan that keeps the float model's answers with the fewest ops left float.

One phase after the other, each in a module of its own; every plan is emitted, run and judged. Anytime: at the
deadline the best plan so far is the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgekit.progress import Progress
from edgekit.quantize.plan import Plan
from edgekit.search.activations import restyle
from edgekit.search.fitting import fit
from edgekit.search.float_weights import shrink
from edgekit.search.four_bits import halve_weights
from edgekit.search.hazards import dare
from edgekit.search.journal import Journal
from edgekit.search.problem import SENSITIVE, Base, Found, Problem
from edgekit.search.ranking import rank_units
from edgekit.search.sixteen_bits import widen
from edgekit.search.units import Unit, units_of

_HIDDEN = 1.1
_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)


def search(problem: Problem, target: float, seconds: float, progress: Progress) -> Found:
    """Return the best plan within ``seconds``: at most ``target`` loss with the fewest float ops, or the least loss."""
    journal = Journal(problem, target, seconds, progress)
    base = _best_base(journal)
    ranked: list[Unit] = [] if journal.reached else _ranked(journal, base)
    left = [] if journal.reached else _give_back(journal, base, ranked[: _leave_float(journal, base, ranked)])
    if restyle(journal, base):
        left = []
    fit(journal, base, len(left), lambda number: _without(problem, base, left[:number]), (0, *_SIZES))
    dare(journal)
    widen(journal)
    shrink(journal)
    halve_weights(journal)
    return journal.found()


def _best_base(journal: Journal) -> Base:
    """Quantize everything from each base in turn, until one loses little enough; return the best.

    A later base is repaired further: where one culprit hides the difference, it is the better start.
    """
    best: Base | None = None
    least = math.inf
    for make in journal.problem.bases:
        if best is not None and journal.out_of_time():
            break
        base = make()
        if base is None:
            continue
        loss = journal.attempt(base.name, base, journal.problem.decide(base, {}, False))
        if best is None or loss <= _HIDDEN * least:
            best = base
        least = min(least, loss)
        if loss <= journal.target:
            break
    assert best is not None  # the first base is always there
    return best


def _ranked(journal: Journal, base: Base) -> list[Unit]:
    return rank_units(journal, base, units_of(base.graph, journal.problem.decide(base, {}, False)))


def _leave_float(journal: Journal, base: Base, ranked: Sequence[Unit]) -> int:
    """Leave the worst units float, as few as reach the target; return how many the best plan leaves."""
    losses = {0: math.inf}
    low, high = 0, None
    for count in [size for size in _SIZES if size < len(ranked)]:
        if journal.out_of_time():
            break
        losses[count] = _try_without(journal, base, ranked[:count])
        if losses[count] <= journal.target:
            high = count
            break
        low = count
    while high is not None and high - low > 1:
        if journal.out_of_time():
            break
        middle = (low + high) // 2
        losses[middle] = _try_without(journal, base, ranked[:middle])
        if losses[middle] <= journal.target:
            high = middle
        else:
            low = middle
    return high if high is not None else min(losses, key=lambda count: losses[count])


def _give_back(journal: Journal, base: Base, left: list[Unit]) -> list[Unit]:
    """Return the units that have to stay float: each, the least harmful first, goes back to int8 where it may.

    An order by what each costs alone puts some that cost nothing together with the others before those that do.
    """
    if not journal.reached:
        return left
    for unit in reversed(left[:-1]):  # without the last one the target was missed
        if journal.out_of_time():
            break
        fewer = [other for other in left if other is not unit]
        plan = _without(journal.problem, base, fewer)
        loss = journal.attempt(f"{unit.kind} {unit.name.split(';')[-1]} int8 again", base, plan, keep=False)
        if loss <= journal.target:
            journal.keep(base, plan, loss)
            left = fewer
    return left


def _without(problem: Problem, base: Base, units: Sequence[Unit]) -> Plan:
    return problem.decide(base, {op: SENSITIVE for unit in units for op in unit.ops}, False)


def _try_without(journal: Journal, base: Base, units: Sequence[Unit]) -> float:
    plan = _without(journal.problem, base, units)
    loss = journal.attempt(f"{len(units)} unit{'s' if len(units) > 1 else ''} float", base, plan)
    if loss <= journal.target:  # fewer float ops at the target are better than less loss
        journal.keep(base, plan, loss)
    return loss
