"""Verdicts in plain English: one sentence per target, for a terminal."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from edgekit.profile.gains import FASTER, SLOWER, SMALLER, speed_ratio, usable_latency
from edgekit.report.schema import Accuracy, BudgetResult, Variant

_FORMATS = {"tflite": "TFLite", "onnx": "ONNX", "keras": "Keras", "saved_model": "SavedModel"}
_BUDGETS = {
    "accuracy_drop": "accuracy drop",
    "latency_ms": "latency",
    "model_mb": "model size",
    "memory_mb": "memory",
    "speedup": "speed-up",
}
# LiteRT's and ONNX Runtime's words for a file they do not load, and the signals of a library that gives up.
_REFUSAL = re.compile(r"cannot load|delegate|failed to prepare|NOT_IMPLEMENTED|INVALID_GRAPH|SIG(ABRT|SEGV|ILL|FPE)")
_PLACES = {"host": "on this host", "device": "on the device"}


def ships(baseline: Variant, shipped: Variant, drop_points: float, budgets: Sequence[BudgetResult]) -> str:
    """Return the sentence for a compressed variant that ships."""
    parts = [speed_words(shipped, speed_ratio(baseline, shipped)), size_words(baseline, shipped)]
    if shipped.accuracy is not None:
        parts.append(accuracy_words(shipped.accuracy, drop_points))
    unproven = "".join(
        f" (budget {item.limit:g} points {item.note})"
        for item in budgets
        if item.name == "accuracy_drop" and item.passed and item.note
    )
    return f"ship {artifact_label(shipped)}: {', '.join(parts)}{unproven}.{missed_words(budgets)}"


def ships_baseline(
    baseline: Variant,
    best: Variant | None,
    lost_points: float,
    limit: float | None,
    causes: Mapping[str, str],
    budgets: Sequence[BudgetResult],
) -> str:
    """Return the sentence when float ships unchanged; ``best`` is the best of what missed the accuracy budget."""
    start = f"ship {artifact_label(baseline)} unchanged"
    if best is not None and best.accuracy is not None and limit is not None:
        digits = 2 if lost_points - limit < 0.1 else 1  # "missed 1, is -1.0" would puzzle
        gain = f"{speed_words(best, speed_ratio(baseline, best))}, {size_words(baseline, best)}"
        return (
            f"{start}: missed the accuracy budget of {limit:g} points; the best attempt, "
            f"{artifact_label(best)}, is {accuracy_words(best.accuracy, lost_points, digits)} "
            f"({gain}).{missed_words(budgets)}"
        )
    if not causes:
        return f"{start}: nothing else was made.{missed_words(budgets)}"
    name, cause = list(causes.items())[-1]
    others = f" (and {len(causes) - 1} more dropped)" if len(causes) > 1 else ""
    return f"{start}: {name} dropped: {cause}{others}.{missed_words(budgets)}"


def nothing_known(causes: Mapping[str, str]) -> str:
    """Return the sentence when no compressed variant could be scored or timed."""
    listed = "; ".join(f"{name}: {cause}" for name, cause in causes.items())
    return f"nothing ships, because what was made could not be measured: {listed}."


def untimed(note: str) -> str:
    """Return why a file has no latency; a runtime that refuses it, or ends its own process, is told from the rest."""
    first = note.splitlines()[0] if note else "no reason was given"
    return f"the runtime does not take it: {first}" if _REFUSAL.search(first) else f"could not be timed: {first}"


def artifact_label(variant: Variant) -> str:
    """Return e.g. ``pruned-int8 (int8 TFLite)``."""
    return f"{variant.name} ({variant.precision} {_FORMATS.get(variant.format, variant.format)})"


def speed_words(variant: Variant, speedup: float | None) -> str:
    """Return the speed against float with the place it was measured, or that it was not measured."""
    latency = usable_latency(variant)
    if latency is None or speedup is None:
        return "latency not measured"
    place = _PLACES[latency.place]
    if SLOWER <= speedup < FASTER:
        return f"as fast as float {place}"
    factor, word = (speedup, "faster") if speedup >= 1 else (1 / speedup, "slower")
    return f"{_factor(factor)}x {word} than float {place}"


def size_words(before: Variant, after: Variant) -> str:
    """Return how the size changed, e.g. ``8.2x smaller``."""
    ratio = after.size_bytes / before.size_bytes
    if SMALLER < ratio < 1 / SMALLER:
        return "about the same size"
    factor, word = (1 / ratio, "smaller") if ratio < 1 else (ratio, "larger")
    return f"{_factor(factor)}x {word}"


def accuracy_words(accuracy: Accuracy, drop_points: float, digits: int = 1) -> str:
    """Return the change in points with its interval, e.g. ``top-1 -0.3 points [-0.9, +0.2]``."""
    return f"{accuracy.metric} {signed(-drop_points, digits)} points{interval_words(accuracy)}"


def interval_words(accuracy: Accuracy) -> str:
    """Return `` [low, high]`` as a change (not a drop) in points, or nothing if there is no interval."""
    low, high = accuracy.drop_low_points, accuracy.drop_high_points
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return ""
    return f" [{signed(-high)}, {signed(-low)}]"


def signed(points: float, digits: int = 1) -> str:
    """Return the number with its sign; two digits where one would hide it; zero has no sign."""
    digits = 2 if 0 < abs(points) < 0.095 else digits
    text = f"{points:+.{digits}f}"
    return text[1:] if float(text) == 0 else text


def missed_words(budgets: Sequence[BudgetResult]) -> str:
    """Return the missed budgets as one clause, empty if all were met."""
    clauses = []
    for budget in budgets:
        if budget.passed:
            continue
        name = _BUDGETS.get(budget.name, budget.name)
        place = " on this host" if "on this host" in budget.note else ""
        limit = _with_unit(f"{budget.limit:g}", budget.unit)
        if budget.reached is None:
            clauses.append(f"{name} {limit} (not measured)")
            continue
        # as many digits as it takes to tell what was reached from the limit
        digits = next((n for n in (3, 4, 5) if f"{budget.reached:.{n}g}" != f"{budget.limit:.{n}g}"), 6)
        reached = _with_unit(f"{budget.reached:.{digits}g}", budget.unit)
        clauses.append(f"{name} {limit} (reached {reached}{place})")
    return f" Budget missed: {', '.join(clauses)}." if clauses else ""


def _with_unit(number: str, unit: str) -> str:
    return f"{number}{unit}" if unit == "x" else f"{number} {unit}"


def _factor(value: float) -> str:
    return f"{value:.2f}" if value < 1.1 else f"{value:.1f}" if value < 99.5 else f"{value:.0f}"
