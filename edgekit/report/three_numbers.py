"""The three numbers that matter on one target, the baseline beside each: for cards and for lists of runs."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.profile.gains import usable_latency
from edgekit.report import figures
from edgekit.report.markup import Markup, join, tag
from edgekit.report.schema import TargetReport, Variant


@dataclass(frozen=True)
class Number:
    """A figure of what ships against the baseline. ``known``: false where ``value`` is words in its place."""

    name: str
    value: str
    note: Markup | str
    known: bool = True


def three_numbers(target: TargetReport) -> tuple[Number, ...]:
    """Return speed, size and accuracy of what ships; () where nothing does."""
    baseline = figures.find(target, target.baseline)
    shipped = figures.find(target, target.shipped)
    if baseline is None or shipped is None:
        return ()
    return _speed(baseline, shipped), _size(baseline, shipped), _accuracy(baseline, shipped)


def _speed(baseline: Variant, shipped: Variant) -> Number:
    before, after = usable_latency(baseline), usable_latency(shipped)
    if before is None or after is None:
        return Number("Speed-up", "not measured", figures.why_untimed(shipped).partition(": ")[2], known=False)
    speedup = 1.0 if shipped.name == baseline.name else shipped.speedup
    place = "on this host" if after.place == "host" else "on the device"
    times = f"{figures.milliseconds(before.min_ms)} → {figures.milliseconds(after.min_ms)}"
    note = join(times, tag("br"), place)
    if speedup is None:
        return Number("Speed-up", "not measured", note, known=False)
    return Number("Speed-up", figures.factor(speedup), note)


def _size(baseline: Variant, shipped: Variant) -> Number:
    note = f"{figures.size(baseline.size_bytes)} → {figures.size(shipped.size_bytes)}"
    ratio = baseline.size_bytes / shipped.size_bytes if shipped.size_bytes else 0.0
    return Number("Smaller by", figures.factor(ratio), note)


def _accuracy(baseline: Variant, shipped: Variant) -> Number:
    before, after = baseline.accuracy, shipped.accuracy
    if before is None or after is None:
        return Number("Accuracy", "not scored", "", known=False)
    if shipped.name == baseline.name:
        return Number(f"{after.metric}, points", "0.0", f"{after.value:.3f}, the baseline itself")
    change = figures.change_points(shipped)
    value = "unknown" if change is None else figures.points(change)
    note = join(figures.interval(after), tag("br"), f"{before.value:.3f} → {after.value:.3f}")
    return Number(f"{after.metric}, points", value, note, known=change is not None)
