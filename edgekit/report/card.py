"""The first screen: one card per target, with the verdict and the three numbers that matter."""

from __future__ import annotations

from edgekit.profile.gains import usable_latency
from edgekit.report import figures
from edgekit.report.markup import Markup, join, tag
from edgekit.report.schema import TargetReport, Variant
from edgekit.report.table import badge


def card(target: TargetReport, index: int) -> Markup:
    """Return the verdict with the three numbers that matter and the baseline beside each."""
    baseline = figures.find(target, target.baseline)
    shipped = figures.find(target, target.shipped)
    numbers = (
        [_speed(baseline, shipped), _size(baseline, shipped), _accuracy(baseline, shipped)]
        if baseline and shipped
        else []
    )
    return tag(
        "article",
        tag(
            "div",
            tag("h3", tag("a", target.title, href=f"#target-{index}")),
            badge(figures.OUTCOME_WORDS[target.outcome], target.outcome),
            class_="card-head",
        ),
        tag("p", figures.plain_sentence(target), class_="verdict"),
        tag("dl", *numbers, class_="numbers") if numbers else None,
        class_="card",
    )


def _number(name: str, value: str, note: Markup | str, *, words: bool = False) -> Markup:
    return tag("div", tag("dt", name), tag("dd", value, class_="words" if words else "big"), tag("dd", note))


def _speed(baseline: Variant, shipped: Variant) -> Markup:
    before, after = usable_latency(baseline), usable_latency(shipped)
    if before is None or after is None:
        return _number("Speed-up", "not measured", figures.why_untimed(shipped).partition(": ")[2], words=True)
    speedup = 1.0 if shipped.name == baseline.name else shipped.speedup
    place = "on this host" if after.place == "host" else "on the device"
    times = f"{figures.milliseconds(before.min_ms)} → {figures.milliseconds(after.min_ms)}"
    note = join(times, tag("br"), place)
    if speedup is None:
        return _number("Speed-up", "not measured", note, words=True)
    return _number("Speed-up", figures.factor(speedup), note)


def _size(baseline: Variant, shipped: Variant) -> Markup:
    note = f"{figures.size(baseline.size_bytes)} → {figures.size(shipped.size_bytes)}"
    ratio = baseline.size_bytes / shipped.size_bytes if shipped.size_bytes else 0.0
    return _number("Smaller by", figures.factor(ratio), note)


def _accuracy(baseline: Variant, shipped: Variant) -> Markup:
    before, after = baseline.accuracy, shipped.accuracy
    if before is None or after is None:
        return _number("Accuracy", "not scored", "", words=True)
    if shipped.name == baseline.name:
        return _number(f"{after.metric}, points", "0.0", f"{after.value:.3f}, the baseline itself")
    change = figures.change_points(shipped)
    value = "unknown" if change is None else figures.points(change)
    note = join(figures.interval(after), tag("br"), f"{before.value:.3f} → {after.value:.3f}")
    return _number(f"{after.metric}, points", value, note, words=change is None)
