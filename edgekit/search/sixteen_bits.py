"""Give what had to stay float 16-bit activations instead, where the runtime is faster so. It mostly is not."""

from __future__ import annotations

from dataclasses import replace

from edgekit.quantize.kernels import SCHEMES
from edgekit.quantize.plan import Plan
from edgekit.search.journal import Journal
from edgekit.search.problem import SENSITIVE, Base


def widen(journal: Journal) -> None:
    """Try the plan with 16 bits for its sensitive ops; keep it only if it loses no more and is clearly faster."""
    kept = journal.kept
    ops = frozenset(item.op for item in kept.plan.decisions if item.reason == SENSITIVE)
    kinds = SCHEMES[kept.plan.scheme].int16
    wide = frozenset(op.name for op in kept.base.graph.ops if op.name in ops and op.weighted and op.kind in kinds)
    if not ops or journal.out_of_time():
        return
    if not wide:
        journal.notes.append(
            "16 bits instead of float were not tried: this runtime has no 16-bit kernels for these ops"
        )
        return
    plan = with_int16(kept.base, kept.plan, wide)
    count = f"{len(wide)} op{'s' if len(wide) > 1 else ''}"
    tried, ratio = journal.challenge(f"16 bits instead of float for {count}", kept.base, plan)
    if journal.kept is not kept:
        return
    speed = f"{ratio:.1f} times slower" if ratio > 1 else "no clear gain"
    journal.notes.append(f"{tried.what}: {tried.refusal or f'runs, {speed}'}")


def with_int16(base: Base, plan: Plan, ops: frozenset[str]) -> Plan:
    """Return the plan with these ops in 16 bits, and the ranges that this needs."""
    touched = {name for op in base.graph.ops if op.name in ops for name in (*op.inputs, *op.outputs)}
    ranges = {name: base.ranges[name] for name in sorted(touched & base.graph.floats)}
    decisions = (replace(item, precision="int16x8", reason="") if item.op in ops else item for item in plan.decisions)
    return replace(plan, decisions=tuple(decisions), ranges={**plan.ranges, **ranges})
