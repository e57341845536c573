"""Store weights of fully connected layers in 4 bits, where int8 misses the budget for the file's size.

Activations are quantized while running. Some runtimes unpack 4 bits as fast as 8: it is timed, not assumed.
"""

from __future__ import annotations

from dataclasses import replace

from edgekit.quantize.equalize.rescale import FILES
from edgekit.quantize.kernels import SCHEMES
from edgekit.quantize.plan import Plan
from edgekit.search.journal import Journal

_NO_SLOWER = 1.05


def halve_weights(journal: Journal) -> None:
    """Try 4 bits for all such layers, then for the largest half and quarter; keep what gives up nothing else."""
    kept, problem = journal.kept, journal.problem
    current = problem.run(kept.base, kept.plan, None)
    if current.size_bytes <= problem.largest_bytes or journal.out_of_time():
        return
    kinds = SCHEMES[kept.plan.scheme].int4
    int8 = {item.op for item in kept.plan.decisions if item.kind in kinds and item.precision.startswith("int8")}
    model = FILES[kept.plan.format](kept.base.model)
    weights = {op.name: model.array(op.weight).size for op in kept.base.graph.ops if op.name in int8 and op.weighted}
    ops = sorted(weights, key=lambda op: -weights[op])
    if not ops:
        journal.notes.append(f"{_megabytes(current.size_bytes)} is over the budget, and no weights can be 4 bits here")
        return
    reasons = []
    for count in sorted({len(ops), max(1, len(ops) // 2), max(1, len(ops) // 4)}, reverse=True):
        if journal.out_of_time():
            break
        smaller = _with_int4(kept.plan, frozenset(ops[:count]))
        what = f"4-bit weights for {count} layer{'s' if count > 1 else ''}"
        loss = journal.attempt(what, kept.base, smaller, keep=False)
        tried = journal.log[-1]
        if tried.refusal or loss > max(journal.target, kept.loss):
            reasons.append(f"{what}: {tried.refusal or f'{100 * loss:.1f} % of the agreement lost'}")
            continue
        ratio = journal.speed_ratio(kept.base, smaller, kept)
        if tried.size_bytes < current.size_bytes and ratio <= _NO_SLOWER:
            journal.keep(kept.base, smaller, loss)
            sizes = f"{_megabytes(current.size_bytes)} to {_megabytes(tried.size_bytes)}"
            journal.notes.append(f"{what}: from {sizes}, the size budget asks for it")
            return
        reasons.append(f"{what}: {ratio:.2f} times the time, {_megabytes(tried.size_bytes)}")
    journal.notes.extend(reasons)


def _with_int4(plan: Plan, ops: frozenset[str]) -> Plan:
    decisions = (replace(item, precision="int4-dynamic") if item.op in ops else item for item in plan.decisions)
    return replace(plan, decisions=tuple(decisions))


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.2f} MB"
