"""The limits a recipe sets, held against what an artifact reached."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edgekit.profile.gains import accuracy_points, speed_ratio, usable_latency
from edgekit.report.schema import BudgetResult, Variant

EPSILON = 1e-9  # 0.500 - 0.494 is 0.6000000000000005 points in binary; a budget of 0.6 holds
_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Budget:
    """What must hold; None where the recipe sets no limit. MB is 10^6 bytes, speedup is min over min."""

    accuracy_drop_points: float | None = None
    latency_ms: float | None = None
    model_mb: float | None = None
    memory_mb: float | None = None
    speedup: float | None = None


def check_budgets(baseline: Variant, shipped: Variant, budget: Budget) -> list[BudgetResult]:
    """Hold the shipped variant against every limit that is set; what could not be measured is a miss."""
    latency = usable_latency(shipped)
    note = shipped.latency_note or "latency was not measured"
    if latency:
        note = "" if latency.place == "device" else "measured on this host, not on the board"
    memory = latency.peak_memory_bytes / _MEGABYTE if latency and latency.peak_memory_bytes > 0 else None
    drop = drop_points(baseline, shipped)
    proof = unproven(shipped, budget.accuracy_drop_points)
    results = [
        _result("accuracy_drop", budget.accuracy_drop_points, drop, "points", proof),
        _result("latency_ms", budget.latency_ms, latency.p50_ms if latency else None, "ms", note),
        _result("model_mb", budget.model_mb, shipped.size_bytes / _MEGABYTE, "MB", ""),
        _result("memory_mb", budget.memory_mb, memory, "MB", note),
        _result("speedup", budget.speedup, speed_ratio(baseline, shipped), "x", note, at_least=True),
    ]
    return [result for result in results if result is not None]


def drop_points(baseline: Variant, row: Variant) -> float:
    """Return the drop in points: the scorer's own figure, else from the values; inf if unknown."""
    given = row.accuracy.drop_points if row.accuracy else None
    if given is not None and math.isfinite(given):
        return given
    points = accuracy_points(baseline, row)
    return math.inf if points is None else -points


def unproven(row: Variant, limit: float | None) -> str:
    """Say so when the drop's interval reaches over the limit although the estimate does not."""
    high = row.accuracy.drop_high_points if row.accuracy else None
    if limit is None or high is None or not math.isfinite(high) or high <= limit + EPSILON:
        return ""
    return f"not proven: the interval reaches {high:.1f}"


def _result(
    name: str, limit: float | None, reached: float | None, unit: str, note: str, *, at_least: bool = False
) -> BudgetResult | None:
    if limit is None:
        return None
    known = reached if reached is not None and math.isfinite(reached) else None
    over = math.inf if known is None else limit - known if at_least else known - limit
    passed = over <= EPSILON
    return BudgetResult(name=name, limit=limit, reached=known, unit=unit, passed=passed, note=note)
