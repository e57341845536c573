"""The figures of what ships on one target, each with how far it is known."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgekit.profile.gains import usable_latency
from edgekit.report import figures
from edgekit.report.schema import Accuracy, Compared, TargetReport, Variant

PARTS = 9  # the 2nd and 8th of 9 enclose the median with 96 %: order statistics, David and Nagaraja, 2003, section 7.1


@dataclass(frozen=True)
class Metric:
    """What is compared between runs. ``points``: a difference of hundredths; else a ratio, in percent."""

    key: Compared
    name: str
    unit: str
    higher_is_better: bool
    points: bool = False


METRICS = (
    Metric("accuracy_points", "accuracy", "", True, points=True),
    Metric("size_percent", "size", "bytes", False),
    Metric("speedup_percent", "speedup", "x", True),
    Metric("latency_percent", "latency", "ms", False),
    Metric("memory_percent", "memory", "bytes", False),
)


@dataclass(frozen=True)
class Reached:
    """A figure. ``spread``: half the width of its interval, in points or as a logarithm of the ratio; None: unknown."""

    value: float
    spread: float | None


def reached(target: TargetReport, metric: Compared) -> Reached | None:
    """Return the figure of what ships; None where it was not measured or is not a number."""
    shipped = figures.find(target, target.shipped)
    found = _FIGURES[metric](target, shipped) if shipped else None
    return found if found is not None and math.isfinite(found.value) else None


def _accuracy(target: TargetReport, shipped: Variant) -> Reached | None:
    """The spread is that of the drop against the float model on the same samples (paired bootstrap)."""
    accuracy = shipped.accuracy
    return (
        None
        if accuracy is None
        else Reached(accuracy.value, _drop_spread(accuracy, is_baseline=shipped.name == target.baseline))
    )


def _drop_spread(accuracy: Accuracy, *, is_baseline: bool) -> float | None:
    if is_baseline:
        return 0.0
    low, high = accuracy.drop_low_points, accuracy.drop_high_points
    return None if low is None or high is None else (high - low) / 2


def _size(_: TargetReport, shipped: Variant) -> Reached | None:
    return Reached(shipped.size_bytes, 0.0) if shipped.size_bytes > 0 else None


def _speedup(target: TargetReport, shipped: Variant) -> Reached | None:
    """Both files were timed in turns, so part for part they saw the same machine."""
    baseline = figures.find(target, target.baseline)
    slow, fast = usable_latency(baseline) if baseline else None, usable_latency(shipped)
    if slow is None or fast is None:
        return None
    value = 1.0 if shipped.name == target.baseline else shipped.speedup
    if value is None or value <= 0:
        return None
    ours, theirs = _minima(fast.samples_ns), _minima(slow.samples_ns)
    return Reached(value, _spread([b / a for a, b in zip(ours, theirs, strict=True)] if ours and theirs else []))


def _latency(_: TargetReport, shipped: Variant) -> Reached | None:
    latency = usable_latency(shipped)
    if latency is None or latency.p50_ms <= 0:
        return None
    return Reached(latency.p50_ms, _spread([statistics.median(part) for part in _parts(latency.samples_ns)]))


def _memory(_: TargetReport, shipped: Variant) -> Reached | None:
    latency = usable_latency(shipped)
    return Reached(latency.peak_memory_bytes, None) if latency and latency.peak_memory_bytes > 0 else None


_FIGURES: Mapping[Compared, Callable[[TargetReport, Variant], Reached | None]] = {
    "accuracy_points": _accuracy,
    "size_percent": _size,
    "speedup_percent": _speedup,
    "latency_percent": _latency,
    "memory_percent": _memory,
}


def _parts(samples: Sequence[int]) -> list[Sequence[int]]:
    """Cut the calls, in the order measured, into equal parts; [] where there are too few."""
    if len(samples) < PARTS:
        return []
    edges = [round(number * len(samples) / PARTS) for number in range(PARTS + 1)]
    return [samples[start:end] for start, end in itertools.pairwise(edges)]


def _minima(samples: Sequence[int]) -> list[int]:
    return [min(part) for part in _parts(samples)]


def _spread(values: Sequence[float]) -> float | None:
    """Return half the width of the interval of the median, as a logarithm."""
    if len(values) < PARTS or min(values) <= 0:
        return None
    ordered = sorted(math.log(value) for value in values)
    return (ordered[-2] - ordered[1]) / 2
