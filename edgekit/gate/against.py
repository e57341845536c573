"""A run against its baseline: every figure of what ships, with a tolerance to both sides."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from edgekit.gate.differences import Difference, spoiled
from edgekit.gate.findings import Finding
from edgekit.gate.reached import METRICS, Metric, Reached, reached
from edgekit.report import figures
from edgekit.report.schema import Report, TargetReport

_LARGEST_LOG = 50.0
_EPSILON = 1e-9


@dataclass(frozen=True)
class Change:
    """How far a figure moved: positive is better. Points, or percent of the baseline's figure."""

    value: float
    low: float | None
    high: float | None


def compare(now: Report, before: Report, found: Collection[Difference]) -> Iterator[Finding]:
    """Yield a finding for every metric of every target of the two runs; differences were accepted by the user."""
    theirs = {target.target: target for target in before.targets}
    same_source = now.source.sha256 == before.source.sha256
    for target in now.targets:
        if target.target not in theirs:
            yield _noted(target.target, "figure-missing", "is new: the baseline has no such target")
            continue
        for metric in METRICS:
            yield from _metric(metric, target, theirs[target.target], now, found, same_source=same_source)
    ours = {target.target for target in now.targets}
    for name in theirs.keys() - ours:
        yield Finding(rule="figure-missing", found="failed", target=name, message="is in the baseline, and not here")


def change(metric: Metric, now: Reached, before: Reached, *, same_source: bool) -> Change:
    """Return the change with its interval: the two spreads in quadrature, as of independent runs.

    Accuracy has none where the float models differ: each spread is of the drop against its own.
    """
    known = now.spread is not None and before.spread is not None and (same_source or not metric.points)
    spread = math.hypot(now.spread or 0.0, before.spread or 0.0) if known else None
    sign = 1 if metric.higher_is_better else -1
    if metric.points:
        moved = 100 * (now.value - before.value)
        ends: tuple[float | None, float | None] = (None, None) if spread is None else (moved - spread, moved + spread)
    else:
        moved = 100 * (now.value / before.value - 1)
        ratio = math.log(now.value / before.value)
        ends = (None, None) if spread is None else (_percent(ratio - spread), _percent(ratio + spread))
    if sign < 0 and ends[0] is not None and ends[1] is not None:
        ends = (-ends[1], -ends[0])
    return Change(sign * moved + 0.0, *ends)


def _percent(logarithm: float) -> float:
    return 100 * math.expm1(min(logarithm, _LARGEST_LOG))


def _metric(
    metric: Metric, now: TargetReport, before: TargetReport, report: Report, found: Collection[Difference], *,
    same_source: bool,
) -> Iterator[Finding]:  # fmt: skip
    tolerance = report.check.of(metric.key, now.target)
    ours, theirs = reached(now, metric.key), reached(before, metric.key)
    if tolerance is None or (ours is None and theirs is None):
        return
    rule = f"{metric.name}-changed"
    if ours is None:
        assert theirs is not None
        yield Finding(
            rule="figure-missing", found="failed", target=now.target, metric=metric.name,
            before=theirs.value, message=f"no {metric.name}: the baseline has {shown(metric, theirs.value)}",
        )  # fmt: skip
        return
    if theirs is None or theirs.value <= 0:
        yield _noted(now.target, rule, f"{metric.name} {shown(metric, ours.value)}: the baseline has none", metric.name)
        return
    moved = change(metric, ours, theirs, same_source=same_source)
    worse, better = tolerance
    failed = moved.value < -worse - _EPSILON or moved.value > better + _EPSILON
    accepted = "".join(f"; other {item.what}" for item in spoiled(found, metric.key, now.target))
    yield Finding(
        rule=rule,
        found="failed" if failed else "passed",
        target=now.target,
        metric=metric.name,
        message=f"{_sentence(metric, ours, theirs, moved, tolerance, failed=failed)}{accepted}",
        unit=metric.unit,
        before=theirs.value,
        now=ours.value,
        limit=limit(metric, tolerance),
        change=moved.value,
        change_low=moved.low,
        change_high=moved.high,
    )


def _sentence(
    metric: Metric, now: Reached, before: Reached, moved: Change, tolerance: tuple[float, float], *, failed: bool
) -> str:
    figure = f"{metric.name} {shown(metric, before.value)} → {shown(metric, now.value)}"
    if now.value == before.value:
        return f"{figure}, the same"
    direction = "better" if moved.value > 0 else "worse"
    unit = "points" if metric.points else "%"
    text = f"{figure}, {abs(moved.value):.3g} {unit} {direction}"
    if moved.low is not None and moved.high is not None:
        low, high = sorted((moved.low, moved.high))
        text += f" [{low:+.3g}, {high:+.3g}]"
    if not failed:
        return text
    allowed = tolerance[1] if moved.value > 0 else tolerance[0]
    text += f"; allowed {allowed:g}"
    if moved.low is not None and moved.high is not None and moved.low <= 0 <= moved.high:
        text += "; could be noise"
    if moved.value > 0:
        text += "; if it is real, take this run as the baseline"
    return text


def shown(metric: Metric, value: float) -> str:
    """Return a figure as text, with its unit."""
    if metric.unit == "bytes":
        return figures.size(value).replace(figures.SPACE, " ")
    if metric.points:
        return f"{100 * value:.2f}"
    return f"{value:.3g} {metric.unit}" if metric.unit == "ms" else f"{value:.3g}{metric.unit}"


def limit(metric: Metric, tolerance: tuple[float, float]) -> str:
    """Return what is allowed, in words."""
    unit = " points" if metric.points else " %"
    worse, better = tolerance
    return f"±{worse:g}{unit}" if worse == better else f"-{worse:g} to +{better:g}{unit}"


def _noted(target: str, rule: str, message: str, metric: str = "") -> Finding:
    return Finding(rule=rule, found="noted", target=target, metric=metric, message=message)
