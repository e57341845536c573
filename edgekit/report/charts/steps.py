"""What each step bought: size, latency and accuracy along the way from float to what ships."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.profile.gains import usable_latency
from edgekit.report import figures
from edgekit.report.charts.axes import picture, shorten
from edgekit.report.markup import Child, Markup, join, tag
from edgekit.report.schema import TargetReport, Variant

_ROW, _HEAD = 26.0, 30.0
_NAME = 104.0
_BAR = 150.0


def chain(target: TargetReport) -> list[Variant]:
    """Return the rows from the baseline to the shipped one, or to the last that was made if none ships."""
    made = [variant for variant in target.variants if variant.size_bytes > 0]
    end = target.shipped if target.shipped != target.baseline else ""
    name = end or (made[-1].name if made else "")
    path: list[Variant] = []
    while name and name not in {variant.name for variant in path}:
        variant = figures.find(target, name)
        if variant is None:
            break
        path.insert(0, variant)
        name = next((gain.before for gain in target.steps if gain.after == name), "")
    return path


def steps(target: TargetReport) -> Markup:
    """Draw three groups of bars over the same rows: size, latency (fastest call), accuracy."""
    path = chain(target)
    if len(path) < 2:
        return tag("p", "Nothing was done to the model on this target.", class_="empty")
    panels = [_sizes(path), _latencies(path), _accuracies(path)]
    height = sum(_HEAD + _ROW * len(path) for _ in panels)
    drawn: list[Child] = []
    for index, (title, bars) in enumerate(panels):
        drawn.append(_panel(title, path, bars, index * (_HEAD + _ROW * len(path))))
    names = " to ".join(variant.name for variant in path)
    described = "; ".join(
        f"{title}: " + ", ".join(f"{v.name} {text}" for v, (_, text) in zip(path, bars, strict=True))
        for title, bars in panels
    )
    return picture(f"What each step bought, {names}", described, height, *drawn)


Bars = list[tuple[float | None, str]]


def _sizes(path: Sequence[Variant]) -> tuple[str, Bars]:
    start = path[0].size_bytes or 1
    bars: Bars = [
        (
            float(v.size_bytes),
            _with_factor(figures.size(v.size_bytes), start / v.size_bytes, index, "smaller"),
        )
        for index, v in enumerate(path)
    ]
    return "Size", bars


def _latencies(path: Sequence[Variant]) -> tuple[str, Bars]:
    bars: Bars = []
    place = "on this host"
    for index, variant in enumerate(path):
        latency = usable_latency(variant)
        if latency is None:
            bars.append((None, "not measured"))
            continue
        place = "on this host, not the board" if latency.place == "host" else "on the device"
        time = figures.milliseconds(latency.min_ms)
        bars.append((latency.min_ms, _with_factor(time, variant.speedup, index, "faster")))
    title = f"Latency, fastest call, {place}" if any(bar for bar, _ in bars) else "Latency"
    return title, bars


def _accuracies(path: Sequence[Variant]) -> tuple[str, Bars]:
    metric = next((v.accuracy.metric for v in path if v.accuracy), "Accuracy")
    bars: Bars = []
    for index, variant in enumerate(path):
        if variant.accuracy is None:
            bars.append((None, "not scored"))
            continue
        change = figures.change_points(variant)
        text = f"{variant.accuracy.value:.3f}"
        if index and change is not None:
            text += f" ({figures.points(change)})"
        bars.append((variant.accuracy.value, text))
    return metric, bars


def _with_factor(text: str, ratio: float | None, index: int, word: str) -> str:
    if not index or ratio is None:
        return text
    if ratio >= 0.995:
        return f"{text} ({figures.factor(ratio)} {word})"
    opposite = {"smaller": "larger", "faster": "slower"}[word]
    return f"{text} ({figures.factor(1 / ratio)} {opposite})"


def _panel(title: str, path: Sequence[Variant], bars: Bars, top: float) -> Markup:
    longest = max((value for value, _ in bars if value is not None), default=1.0) or 1.0
    parts: list[Child] = [tag("text", title, x=0, y=top + 20, class_="axis")]
    for index, (variant, (value, text)) in enumerate(zip(path, bars, strict=True)):
        y = top + _HEAD + index * _ROW
        label = variant.name if not index else f"+ {variant.steps[-1]}" if variant.steps else variant.name
        parts.append(tag("text", tag("title", variant.name), shorten(label, 18), x=0, y=y + 14, class_="label"))
        length = 0.0 if value is None else max(value / longest * _BAR, 1.5)
        if value is not None:
            style = f"bar {variant.status}"
            parts.append(tag("rect", x=_NAME, y=y + 3, width=length, height=15.0, rx=2.0, class_=style))
        style = "value" if value is not None else "value missing"
        parts.append(tag("text", text, x=_NAME + length + 7, y=y + 14, class_=style))
    parts.append(tag("line", x1=_NAME, x2=_NAME, y1=top + _HEAD, y2=top + _HEAD + _ROW * len(path) - 6, class_="zero"))
    return tag("g", join(*parts))
