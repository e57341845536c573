"""Scales, ticks and the frame that every picture shares. Lengths are SVG user units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.report.markup import Child, Markup, join, tag

WIDTH = 420.0


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic map from data to user units."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Return round numbers inside [low, high]: steps of 1, 2 or 5 times a power of ten."""
    raw = (high - low) / max(about, 1)
    if raw <= 0 or not math.isfinite(raw):
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * unit for unit in (1, 2, 5, 10) if power * unit >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(index * step, 12) for index in range(first, math.floor(high / step + 1e-9) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2, 5 times powers of ten inside [low, high]."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    return [
        10.0**power * unit
        for power in range(first, last + 1)
        for unit in (1, 2, 5)
        if low <= 10.0**power * unit <= high
    ]


def picture(
    title: str, description: str, height: float, *children: Child, width: float = WIDTH, role: str = "img"
) -> Markup:
    """Return the SVG with a title and a description for those who do not see it; ``role``: group where marks speak."""
    return tag(
        "svg",
        tag("title", title),
        tag("desc", description),
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role=role,
        aria_label=title,
        class_="chart",
        xmlns="http://www.w3.org/2000/svg",
    )


def bottom_axis(scale: Scale, at: Sequence[float], top: float, bottom: float, label: str) -> Markup:
    """Return grid lines, tick labels and the axis title under the plot."""
    parts: list[Child] = []
    for value in at:
        x = scale(value)
        parts.append(tag("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        parts.append(tag("text", f"{value:g}", x=x, y=bottom + 16, text_anchor="middle", class_="tick"))
    middle = (scale.start + scale.end) / 2
    parts.append(tag("text", label, x=middle, y=bottom + 34, text_anchor="middle", class_="axis"))
    return join(*parts)


def left_axis(
    scale: Scale,
    at: Sequence[float],
    left: float,
    right: float,
    label: str,
) -> Markup:
    """Return grid lines and tick labels beside the plot, the axis title above it."""
    digits = decimals(at)
    parts: list[Child] = []
    for value in at:
        y = scale(value)
        parts.append(tag("line", x1=left, x2=right, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", f"{value:.{digits}f}", x=left - 6, y=y + 4, text_anchor="end", class_="tick"))
    parts.append(tag("text", label, x=2, y=scale.end - 12, class_="axis"))
    return join(*parts)


@dataclass(frozen=True)
class Box:
    """An area that is taken: a mark or a label."""

    left: float
    right: float
    top: float
    bottom: float

    def hits(self, other: Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom


def free_height(wanted: Box, taken: Sequence[Box], low: float, high: float) -> float:
    """Return how far to move a label up or down, inside [low, high], so that it covers nothing."""
    for step in range(12):
        for shift in (step * 8.0, step * -8.0):
            moved = Box(wanted.left, wanted.right, wanted.top + shift, wanted.bottom + shift)
            if moved.top >= low and moved.bottom <= high and not any(moved.hits(box) for box in taken):
                return shift
    return 0.0


def decimals(at: Sequence[float]) -> int:
    """Return the digits that every tick needs, so that all are written alike."""
    for digits in range(7):
        if all(abs(round(value, digits) - value) < 1e-9 for value in at):
            return digits
    return 6


def shorten(text: str, length: int) -> str:
    """Cut a long name in the middle, where names differ least."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"
