"""Accuracy against latency (or size, where nothing was timed): every variant that was scored, drawn by its size.

Each mark can be pointed at, touched, or reached by the Tab key, and says what it is.
"""

from __future__ import annotations

import math
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
_SMALLEST, _LARGEST = 4.0, 11.0  # radii of marks: their areas are as the sizes of the files
_LIMIT = "accuracy budget"
_FINGER = 15.0  # radius that answers a touch


@dataclass(frozen=True)
class _Point:
    variant: Variant
    x: float
    value: float
    low: float
    high: float
    radius: float = _SMALLEST


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
    leaders, names = _labels(points, x, y, limit)
    unit = f"p50 latency in ms, {_place(target)}" if timed else "size in MB (latency was not measured)"
    metric = next((v.accuracy.metric for v in target.variants if v.accuracy), "accuracy")
    return picture(
        f"{metric} against {'latency' if timed else 'size'}, {target.title}",
        "; ".join(f"{p.variant.name}: {p.x:.3g} {'ms' if timed else 'MB'}, {p.value:.3f}" for p in points),
        _HEIGHT,
        bottom_axis(x, ticks(0, x.high), _TOP, _BOTTOM, unit),
        left_axis(y, ticks(y.low, y.high), _LEFT, _RIGHT, f"{metric}, higher is better"),
        None if limit is None else tag("line", x1=_LEFT, x2=_RIGHT, y1=y(limit), y2=y(limit), class_="limit"),
        _front(points, x, y),
        leaders,
        *(_mark(point, x, y) for point in points),
        names,
        None if limit is None else _limit_name(y, limit),
        role="group",
    )


def undrawn(target: TargetReport) -> str:
    """Say which variants are not in the picture, and why; empty where all are."""
    timed = any(usable_latency(variant) for variant in target.variants)
    drawn = {point.variant.name for point in _points(target, timed)}
    missing = [
        f"{variant.name} ({'not scored' if variant.accuracy is None else 'not timed'})"
        for variant in target.variants
        if variant.name not in drawn
    ]
    return f"Not drawn: {', '.join(missing)}." if missing and drawn else ""


def _points(target: TargetReport, timed: bool) -> list[_Point]:
    baseline = figures.find(target, target.baseline)
    start = baseline.accuracy.value if baseline and baseline.accuracy else None
    found = []
    largest = max((variant.size_bytes for variant in target.variants), default=0) or 1
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
                max(_LARGEST * math.sqrt(variant.size_bytes / largest), _SMALLEST),
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


def _limit_name(y: Scale, limit: float) -> Markup:
    return tag("text", _LIMIT, x=_RIGHT, y=y(limit) + 14, text_anchor="end", class_="label limit-text")


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
    cx, cy, radius = x(point.x), y(point.value), point.radius
    status = point.variant.status
    words = _words(point)
    parts: list[Child] = [tag("title", words), tag("circle", cx=cx, cy=cy, r=_FINGER, class_="touch")]
    if point.high > point.low:
        parts.append(tag("line", x1=cx, x2=cx, y1=y(point.low), y2=y(point.high), class_="whisker"))
    parts.append(tag("circle", cx=cx, cy=cy, r=radius, class_="dot"))
    if status == "shipped":  # what ships is often the smallest mark
        parts.append(tag("circle", cx=cx, cy=cy, r=radius + 3.5, class_="ring"))
    if status == "dropped":
        arm = radius * 0.7
        across = f"{2 * arm:.1f}"
        path = f"M{cx - arm:.1f} {cy - arm:.1f}l{across} {across}m0 -{across}l-{across} {across}"
        parts.append(tag("path", d=path, class_="cross"))
    return tag("g", *parts, class_=f"mark {status}", tabindex=0, role="img", aria_label=words)


def _words(point: _Point) -> str:
    """Return everything the picture shows of one variant, in words."""
    variant = point.variant
    latency, accuracy = usable_latency(variant), variant.accuracy
    change = figures.change_points(variant)
    parts = [f"{variant.name}: {figures.STATUS_WORDS[variant.status]}"]
    if latency:
        parts.append(f"p50 {figures.milliseconds(latency.p50_ms)}")
    parts.append(figures.size(variant.size_bytes))
    if accuracy:
        parts.append(f"{accuracy.metric} {point.value:.3f}")
        if change is not None and variant.status != "baseline":
            parts.append(f"{figures.points(change)} points {figures.interval(accuracy)}")
    return ", ".join(parts) + (f". {variant.cause}" if variant.cause else "")


def _labels(points: Sequence[_Point], x: Scale, y: Scale, limit: float | None) -> tuple[Markup, Markup]:
    """Return leaders and names; a name is moved up or down where it would cover another."""
    taken = [Box(*_around(x(p.x), p.radius + 3), *_around(y(p.value), p.radius + 3)) for p in points]
    if limit is not None:
        taken.append(Box(_RIGHT - len(_LIMIT) * _LETTER, _RIGHT, y(limit) + 2, y(limit) + 17))
    leaders: list[Child] = []
    names: list[Child] = []
    for point in points:
        cx, cy = x(point.x), y(point.value)
        name = shorten(point.variant.name, 26)
        length = len(name) * _LETTER
        away = point.radius + 7
        left = cx + away + length > _RIGHT
        start = cx - away - length if left else cx + away
        wanted = Box(start, start + length, cy - 8, cy + 7)
        shift = free_height(wanted, taken, _TOP, _BOTTOM)
        taken.append(Box(start, start + length, wanted.top + shift, wanted.bottom + shift))
        edge = cx - away if left else cx + away
        if abs(shift) > 8:
            leaders.append(tag("line", x1=cx, x2=edge, y1=cy, y2=cy + shift, class_="leader"))
        style = "label strong" if point.variant.status == "shipped" else "label"
        anchor = "end" if left else "start"
        names.append(tag("text", name, x=edge, y=cy + shift + 4, text_anchor=anchor, class_=style))
    return join(*leaders), join(*names)


def _around(middle: float, reach: float) -> tuple[float, float]:
    return middle - reach, middle + reach
