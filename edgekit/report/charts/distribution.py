"""Every timed call: one histogram per variant on a common logarithmic axis, with min, p50 and p90."""

from __future__ import annotations

from edgekit.profile.gains import usable_latency
from edgekit.report import figures
from edgekit.report.charts.axes import WIDTH, Scale, bottom_axis, log_ticks, picture, shorten, ticks
from edgekit.report.markup import Child, Markup, tag
from edgekit.report.schema import Latency, TargetReport

_BINS = 90
_ROW, _LEFT, _RIGHT, _TOP = 62.0, 6.0, WIDTH - 6, 6.0
_TALL = 30.0


def distribution(target: TargetReport) -> Markup:
    """Draw the raw samples of every timed variant, or say that there are none."""
    timed = [(v, latency) for v in target.variants if (latency := usable_latency(v)) and latency.samples_ns]
    if not timed:
        return tag("p", figures.timing_line(target), class_="empty")
    samples = [ns / 1e6 for _, latency in timed for ns in latency.samples_ns if ns > 0]
    if not samples:
        return tag("p", "The raw samples are not in this report.", class_="empty")
    x = Scale(min(samples) / 1.08, max(samples) * 1.08, _LEFT, _RIGHT, log=True)
    bottom = _TOP + _ROW * len(timed)
    place = "on this host, not the board" if timed[0][1].place == "host" else "on the device"
    parts: list[Child] = [
        bottom_axis(x, _thinned(x), _TOP, bottom, f"ms per inference {place}, logarithmic"),
    ]
    for index, (variant, latency) in enumerate(timed):
        base = _TOP + _ROW * (index + 1) - 4
        parts.append(_histogram(variant.name, variant.status, latency, x, base))
    described = "; ".join(
        f"{v.name}: min {lat.min_ms:.3g}, p50 {lat.p50_ms:.3g}, p90 {lat.p90_ms:.3g} ms" for v, lat in timed
    )
    return picture(f"Distribution of latency, {target.title}", described, bottom + 40, *parts)


def _thinned(x: Scale) -> list[float]:
    """Drop ticks whose labels would touch."""
    kept: list[float] = []
    candidates = log_ticks(x.low, x.high)
    for value in candidates if len(candidates) > 2 else ticks(x.low, x.high, 6):
        inside = _LEFT + 8 < x(value) < _RIGHT - 8
        if inside and (not kept or x(value) - x(kept[-1]) > 26):
            kept.append(value)
    return kept


def _histogram(name: str, status: str, latency: Latency, x: Scale, base: float) -> Markup:
    bins = [0] * _BINS
    width = (_RIGHT - _LEFT) / _BINS
    for ns in latency.samples_ns:
        if ns > 0:
            bins[min(int((x(ns / 1e6) - _LEFT) / width), _BINS - 1)] += 1
    tallest = max(bins) or 1
    path = "".join(
        f"M{_LEFT + index * width:.1f} {base:.1f}v{-max(number / tallest * _TALL, 1.5):.1f}"
        f"h{width - 0.6:.1f}V{base:.1f}z"
        for index, number in enumerate(bins)
        if number
    )
    words = (
        f"min {figures.milliseconds(latency.min_ms)} · p50 {figures.milliseconds(latency.p50_ms)} · "
        f"p90 {figures.milliseconds(latency.p90_ms)}"
    )
    return tag(
        "g",
        tag("title", f"{name}: {len(latency.samples_ns)} samples, {words}"),
        tag("line", x1=_LEFT, x2=_RIGHT, y1=base, y2=base, class_="zero"),
        tag("path", d=path, class_=f"bar {status}"),
        tag("line", x1=x(latency.p50_ms), x2=x(latency.p50_ms), y1=base - _TALL - 3, y2=base, class_="median"),
        tag("text", shorten(name, 20), x=_LEFT, y=base - _TALL - 12, class_="label"),
        tag("text", words, x=_RIGHT, y=base - _TALL - 12, text_anchor="end", class_="tick"),
    )
