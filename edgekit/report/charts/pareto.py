"""Accuracy against latency (or size, where nothing was timed): every variant that was scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.profile.gains import usable_latency
from edgekit.report import figures
from edgekit.report.charts.axes import (
    WIDTH,
    Box,
    Scale,
    bottom_axis,
    free_height,
    left_axis,
    picture,
    shorten,
    ticks,
)
from edgekit.report.markup import Child, Markup, join, tag
from edgekit.report.schema import TargetReport, Variant

_HEIGHT = 320.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, WIDTH - 16, 30.0, _HEIGHT - 44
_LETTER = 7.0  # a generous width of one letter of a label


@dataclass(frozen=True)
class _Point:
    variant: Variant
    x: float
    value: float
    low: float
    high: float


def pareto(target: TargetReport) -> Markup:
    """Draw the scored variants with their accuracy intervals, the front and the accuracy limit."""
    timed = any(usable_latency(variant) for variant in target.variants)
    points = _points(target, timed)
    if not points:
        return tag("p", "No variant was scored, so there is nothing to compare.", class_="empty")
    limit = _limit(target)
    values = [v for p in points for v in (p.low, p.high)] + ([limit] if limit is not None else [])
    pad = max((max(values) - min(values)) * 0.12, 0.004)
    y = Scale(max(min(values) - pad, 0.0), max(values) + pad, _BOTTOM, _TOP)
    x = Scale(0.0, max(p.x for p in points) * 1.08 or 1.0, _LEFT, _RIGHT)
    leaders, names = _labels(points, x, y)
    unit = f"p50 latency in ms, {_place(target)}" if timed else "size in MB (latency was not measured)"
    metric = next((v.accuracy.metric for v in target.variants if v.accuracy), "accuracy")
    return picture(
        f"{metric} against {'latency' if timed else 'size'}, {target.title}",
        "; ".join(f"{p.variant.name}: {p.x:.3g} {'ms' if timed else 'MB'}, {p.value:.3f}" for p in points),
        _HEIGHT,
        bottom_axis(x, ticks(0, x.high), _TOP, _BOTTOM, unit),
        left_axis(y, ticks(y.low, y.high), _LEFT, _RIGHT, f"{metric}, higher is better"),
        _limit_line(y, limit),
        _front(points, x, y),
        leaders,
        *(_mark(point, x, y) for point in points),
        names,
    )


def _points(target: TargetReport, timed: bool) -> list[_Point]:
    baseline = figures.find(target, target.baseline)
    start = baseline.accuracy.value if baseline and baseline.accuracy else None
    found = []
    for variant in target.variants:
        latency, accuracy = usable_latency(variant), variant.accuracy
        if accuracy is None or (timed and latency is None):
            continue
        low, high = accuracy.drop_high_points, accuracy.drop_low_points
        known = start is not None and low is not None and high is not None
        found.append(
            _Point(
                variant,
                latency.p50_ms if timed and latency else variant.size_bytes / 1e6,
                accuracy.value,
                (start or 0) - (low or 0) / 100 if known else accuracy.value,
                (start or 0) - (high or 0) / 100 if known else accuracy.value,
            )
        )
    return found


def _limit(target: TargetReport) -> float | None:
    baseline = figures.find(target, target.baseline)
    budget = next((b for b in target.budgets if b.name == "accuracy_drop"), None)
    if budget is None or baseline is None or baseline.accuracy is None:
        return None
    return baseline.accuracy.value - budget.limit / 100


def _place(target: TargetReport) -> str:
    places = {latency.place for v in target.variants if (latency := usable_latency(v))}
    return "on the device" if places == {"device"} else "on this host, not the board"


def _limit_line(y: Scale, limit: float | None) -> Markup | None:
    if limit is None:
        return None
    at = y(limit)
    return join(
        tag("line", x1=_LEFT, x2=_RIGHT, y1=at, y2=at, class_="limit"),
        tag("text", "accuracy budget", x=_RIGHT, y=at + 14, text_anchor="end", class_="note limit-text"),
    )


def _front(points: Sequence[_Point], x: Scale, y: Scale) -> Markup | None:
    """Return the stairs through the rows that are not dropped and that no other beats in both directions."""
    path, best = "", float("-inf")
    kept = [point for point in points if point.variant.status != "dropped"]
    for point in sorted(kept, key=lambda p: (p.x, -p.value)):
        if point.value > best:
            at = f"{x(point.x):.1f}"
            path += f"H{at}V{y(point.value):.1f}" if path else f"M{at} {y(point.value):.1f}"
            best = point.value
    return tag("path", d=path, class_="front") if path else None


def _mark(point: _Point, x: Scale, y: Scale) -> Markup:
    cx, cy = x(point.x), y(point.value)
    status = point.variant.status
    change = figures.change_points(point.variant)
    words = f"{point.variant.name}: {figures.STATUS_WORDS[status]}, {point.value:.3f}"
    if change is not None and point.variant.accuracy:
        words += f", {figures.points(change)} points {figures.interval(point.variant.accuracy)}"
    parts: list[Child] = [tag("title", words)]
    if point.high > point.low:
        parts.append(tag("line", x1=cx, x2=cx, y1=y(point.low), y2=y(point.high), class_="whisker"))
    if status == "dropped":
        parts.append(tag("path", d=f"M{cx - 5:.1f} {cy - 5:.1f}l10 10m0 -10l-10 10", class_="cross"))
    else:
        parts.append(tag("circle", cx=cx, cy=cy, r=7.0 if status == "shipped" else 5.5, class_="dot"))
    return tag("g", *parts, class_=f"mark {status}")


def _labels(points: Sequence[_Point], x: Scale, y: Scale) -> tuple[Markup, Markup]:
    """Return leaders and names; a name is moved up or down where it would cover another."""
    taken = [Box(x(p.x) - 8, x(p.x) + 8, y(p.value) - 8, y(p.value) + 8) for p in points]
    leaders: list[Child] = []
    names: list[Child] = []
    for point in points:
        cx, cy = x(point.x), y(point.value)
        name = shorten(point.variant.name, 26)
        length = len(name) * _LETTER
        left = cx + 12 + length > _RIGHT
        start = cx - 12 - length if left else cx + 12
        wanted = Box(start, start + length, cy - 8, cy + 7)
        shift = free_height(wanted, taken, _TOP, _BOTTOM)
        taken.append(Box(start, start + length, wanted.top + shift, wanted.bottom + shift))
        edge = cx - 12 if left else cx + 12
        if abs(shift) > 8:
            leaders.append(tag("line", x1=cx, x2=edge, y1=cy, y2=cy + shift, class_="leader"))
        style = "label strong" if point.variant.status == "shipped" else "label"
        anchor = "end" if left else "start"
        names.append(tag("text", name, x=edge, y=cy + shift + 4, text_anchor=anchor, class_=style))
    return join(*leaders), join(*names)
