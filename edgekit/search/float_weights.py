"""Store the weights of what stayed float as int8, where the runtime unpacks them once."""

from __future__ import annotations

from dataclasses import replace

from edgekit.quantize.kernels import SCHEMES
from edgekit.quantize.plan import Plan
from edgekit.search.journal import Journal
from edgekit.search.problem import SENSITIVE

_SPARED = (0, 1, 2, 4, 8, 16)


def shrink(journal: Journal) -> None:
    """Make those weights int8, but for the few most sensitive that cannot bear even that."""
    kept = journal.kept
    base, plan = kept.base, kept.plan
    if not SCHEMES[plan.scheme].unpacks_once:
        return
    weighted = {op.name for op in base.graph.ops if op.weighted and op.is_float}
    left = {item.op for item in plan.decisions if item.reason == SENSITIVE and item.op in weighted}
    ranked = [item.unit for item in journal.sensitivity if item.unit in left]
    ranked += sorted(left - set(ranked))
    for spared in _SPARED:
        if spared >= len(ranked) or journal.out_of_time():
            return
        smaller = _with_int8_weights(plan, frozenset(ranked[spared:]))
        what = "their weights int8" if not spared else f"their weights int8, but for {spared}"
        loss = journal.attempt(what, base, smaller, keep=False)
        if loss <= max(journal.target, kept.loss):
            journal.keep(base, smaller, loss)
            return


def _with_int8_weights(plan: Plan, ops: frozenset[str]) -> Plan:
    decisions = (replace(item, precision="int8-weights") if item.op in ops else item for item in plan.decisions)
    return replace(plan, decisions=tuple(decisions))
