"""What one step bought: which row to hold a variant against, and the causes for which it is dropped."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from edgekit.profile.slow_ops import slowest
from edgekit.report.schema import Latency, StepGain, Variant

FASTER = 1.02  # a smaller gain is inside the run-to-run noise of interleaved minima
SLOWER = 0.98
SMALLER = 0.95


def usable_latency(variant: Variant) -> Latency | None:
    """Return the latency if it is a measured one: finite, positive and not emulated."""
    latency = variant.latency
    if latency is None or "emulated" in latency.flags:
        return None
    return latency if math.isfinite(latency.min_ms) and latency.min_ms > 0 else None


def speed_ratio(before: Variant, after: Variant) -> float | None:
    """Return how many times faster ``after`` is (by interleaved minima), or None if not timed."""
    if usable_latency(before) is None or usable_latency(after) is None:
        return None
    ratios = [variant.speedup if variant.steps else variant.speedup or 1.0 for variant in (before, after)]
    if any(ratio is None or not math.isfinite(ratio) or ratio <= 0 for ratio in ratios):
        return None
    return float(ratios[1] or 0) / float(ratios[0] or 1)


def accuracy_points(before: Variant, after: Variant) -> float | None:
    """Return the change of the metric in points, negative where accuracy was lost."""
    if before.accuracy is None or after.accuracy is None:
        return None
    change = (after.accuracy.value - before.accuracy.value) * 100
    return change if math.isfinite(change) else None


def parents(variant: Variant, rows: Sequence[Variant]) -> list[Variant]:
    """Return the rows that lack exactly one of the variant's steps, the last step's first.

    Where several qualify the one of the same precision; where none does, the first row: the baseline.
    """
    found: list[Variant] = []
    for index in reversed(range(len(variant.steps))):
        rest = variant.steps[:index] + variant.steps[index + 1 :]
        lacking = [row for row in rows if row.steps == rest and row.name != variant.name]
        same = [row for row in lacking if row.precision == variant.precision]
        for row in (same or lacking)[:1]:
            if row.name not in {seen.name for seen in found}:
                found.append(row)
    return found or [rows[0]]


def references(variant: Variant, rows: Sequence[Variant], alive: Mapping[str, bool]) -> list[Variant]:
    """Return the nearest ancestors that were not dropped; the baseline never is."""
    found: dict[str, Variant] = {}
    for parent in parents(variant, rows):
        near = [parent] if alive.get(parent.name) or not parent.steps else references(parent, rows, alive)
        found.update((row.name, row) for row in near)
    return list(found.values())


def worth_causes(before: Variant, after: Variant) -> list[str]:
    """Return why ``after`` is not worth having over ``before``; empty if it is."""
    if after.sha256 == before.sha256:
        return [f"the same file as {before.name}, byte for byte"]  # whose times differ by noise alone
    ratio = speed_ratio(before, after)
    points = accuracy_points(before, after) or 0.0
    size = after.size_bytes / before.size_bytes
    if ratio is not None and ratio < SLOWER and before.precision != after.precision:
        return [_slower_precision(before, after)]
    if ratio is not None and ratio < SLOWER and points < 0:
        return [f"slower and less accurate than {before.name}: {ratio:.2f}x its speed, {points:+.1f} points"]
    if size <= SMALLER or (ratio is not None and ratio >= FASTER):
        return []
    speed = "latency was not measured" if ratio is None else f"{ratio:.2f}x its speed"
    return [f"bought nothing over {before.name}: {speed}, {size:.2f}x its size"]


def step_gain(before: Variant, after: Variant, *, kept: bool, cause: str) -> StepGain:
    """Return the before/after row of one step."""
    missing = list(after.steps)
    for step in before.steps:
        if step in missing:
            missing.remove(step)
    return StepGain(
        step=" + ".join(missing) or "convert",
        before=before.name,
        after=after.name,
        size_ratio=after.size_bytes / before.size_bytes,
        speedup=speed_ratio(before, after),
        accuracy_points=accuracy_points(before, after),
        kept=kept,
        cause=cause,
    )


def _slower_precision(before: Variant, after: Variant) -> str:
    old = "float" if before.precision == "float32" else before.precision
    ratio = speed_ratio(before, after) or math.nan
    text = f"{after.precision} is slower than {old}: {ratio:.2f}x the speed of {before.name}"
    latency = usable_latency(after)
    if latency is None or not latency.ops:
        return f"{text}; this runtime gave no per-op times to say where"
    slow = slowest(latency, after.format)
    if slow is None:
        return f"{text}; no op runs in float, so the {after.precision} kernels themselves are slow here"
    return f"{text}; {slow.ms:.2f} of {slow.all_ms:.2f} ms runs {slow.slowness.words}, most in {slow.worst}"
