"""Accuracy against latency of every float network that pruning made, the unpruned one and its control beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.report import figures
from edgekit.report.charts.axes import (
    WIDTH,
    Box,
    Scale,
    bottom_axis,
    free_height,
    left_axis,
    picture,
    ticks,
)
from edgekit.report.markup import Child, Markup, join, tag
from edgekit.report.pruned import CurvePoint, PruneSummary

_HEIGHT = 320.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, WIDTH - 16, 30.0, _HEIGHT - 44
_LETTER = 7.0
UNPRUNED, CONTROL = "unpruned", "control"


@dataclass(frozen=True)
class _Dot:
    name: str
    kind: str
    x: float
    value: float
    low: float
    high: float


def curve(prune: PruneSummary) -> Markup | None:
    """Draw the curve; None without at least two networks that were timed in one run."""
    dots = _dots(prune)
    if len(dots) < 2:
        return None
    values = [value for dot in dots for value in (dot.low, dot.high)]
    pad = max((max(values) - min(values)) * 0.12, 0.004)
    y = Scale(max(min(values) - pad, 0.0), max(values) + pad, _BOTTOM, _TOP)
    x = Scale(0.0, max(dot.x for dot in dots) * 1.08, _LEFT, _RIGHT)
    metric = prune.curve[0].accuracy.metric
    return picture(
        f"{metric} against latency of the float networks that pruning made",
        "; ".join(f"{dot.name}: {dot.x:.3g} ms, {dot.value:.3f}" for dot in dots),
        _HEIGHT,
        bottom_axis(x, ticks(0, x.high), _TOP, _BOTTOM, "fastest call in ms, float, on this host"),
        left_axis(y, ticks(y.low, y.high), _LEFT, _RIGHT, f"{metric}, higher is better"),
        _line(dots, x, y),
        *(_mark(dot, x, y) for dot in dots),
        _names(dots, x, y),
    )


def short_name(name: str) -> str:
    """Say what a network of the curve is: 'unpruned', 'control', '25 % kept' or 'student'; a seed but the first too."""
    kind, _, seed = name.partition("-seed-")
    again = f", seed {seed}" if seed not in ("", "0") else ""
    if kind.startswith("keep-"):
        return f"{float(kind.removeprefix('keep-')):.0%}".replace("%", " % of MACs") + again
    return kind + again


def _dots(prune: PruneSummary) -> list[_Dot]:
    start = next((point.accuracy.value for point in prune.curve if point.name == UNPRUNED), None)
    found = []
    for point in prune.curve:
        if point.latency is None:
            continue
        low, high = _interval(point, start)
        kind = "shipped" if point.name == prune.chosen else _kind(point.name)
        found.append(_Dot(point.name, kind, point.latency.min_ms, point.accuracy.value, low, high))
    return found


def _kind(name: str) -> str:
    return "baseline" if name == UNPRUNED or name.startswith(CONTROL) else "kept"


def _interval(point: CurvePoint, start: float | None) -> tuple[float, float]:
    low, high = point.accuracy.drop_high_points, point.accuracy.drop_low_points
    if start is None or low is None or high is None:
        return point.accuracy.value, point.accuracy.value
    return start - low / 100, start - high / 100


def _line(dots: Sequence[_Dot], x: Scale, y: Scale) -> Markup | None:
    """Join the amounts of one seed, the least pruned last."""
    first = [dot for dot in dots if dot.kind in ("kept", "shipped") and "keep-" in dot.name]
    seeds = sorted({dot.name.partition("-seed-")[2] for dot in first})
    joined = (
        sorted((dot for dot in first if dot.name.endswith(f"-seed-{seeds[0]}")), key=lambda d: d.x) if seeds else []
    )
    joined += [dot for dot in dots if dot.name == UNPRUNED and joined]
    if len(joined) < 2:
        return None
    path = "L".join(f"{x(dot.x):.1f} {y(dot.value):.1f}" for dot in joined)
    return tag("path", d=f"M{path}", class_="front")


def _mark(dot: _Dot, x: Scale, y: Scale) -> Markup:
    cx, cy = x(dot.x), y(dot.value)
    parts: list[Child] = [tag("title", f"{short_name(dot.name)}: {figures.milliseconds(dot.x)}, {dot.value:.3f}")]
    if dot.high > dot.low:
        parts.append(tag("line", x1=cx, x2=cx, y1=y(dot.low), y2=y(dot.high), class_="whisker"))
    parts.append(tag("circle", cx=cx, cy=cy, r=7.0 if dot.kind == "shipped" else 5.5, class_="dot"))
    return tag("g", *parts, class_=f"mark {dot.kind}")


def _names(dots: Sequence[_Dot], x: Scale, y: Scale) -> Markup:
    """Return the names beside the dots, moved up or down where they would cover something."""
    taken = [Box(x(d.x) - 8, x(d.x) + 8, y(d.value) - 8, y(d.value) + 8) for d in dots]
    parts: list[Child] = []
    for dot in dots:
        cx, cy, name = x(dot.x), y(dot.value), short_name(dot.name)
        length = len(name) * _LETTER
        left = cx + 12 + length > _RIGHT
        start = cx - 12 - length if left else cx + 12
        shift = free_height(Box(start, start + length, cy - 8, cy + 7), taken, _TOP, _BOTTOM)
        taken.append(Box(start, start + length, cy - 8 + shift, cy + 7 + shift))
        edge = cx - 12 if left else cx + 12
        if abs(shift) > 8:
            parts.append(tag("line", x1=cx, x2=edge, y1=cy, y2=cy + shift, class_="leader"))
        style = "label strong" if dot.kind == "shipped" else "label"
        anchor = "end" if left else "start"
        parts.append(tag("text", name, x=edge, y=cy + shift + 4, text_anchor=anchor, class_=style))
    return join(*parts)
