"""Causes that lie in the ranges: what calibration saw is not what the samples hold."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekit.diagnose.causes import Evidence, accuracy, is_at_the_end, percent
from edgekit.diagnose.compare_layers import TensorFigures
from edgekit.diagnose.output_blame import KEPT_SHARE, WORTH_A_CURE, as_in_artifact
from edgekit.diagnose.schema import Finding

_CLIPPED = 1e-3  # share of the values beyond the range from which a tensor is off
_UNUSED = 0.25  # of the range is all that the samples reach: two of eight bits are lost
_LOOSE = 0.5  # of the range is used: a bit is lost
_BEYOND = 0.25  # of the span, by which the samples leave it: no longer chance
_MATTERS = 0.1  # of the worst tensor's error at the outputs: below, a clipped value changes nothing
_FAR = 2.5  # times the range, in the middle tensor: other data, not fewer


def calibration(evidence: Evidence) -> Iterator[Finding]:
    """Find ranges that the samples leave or hardly use, and tell the reasons apart by where they do."""
    off = {name: f for name, f in evidence.found.figures.items() if _is_off(f) and name not in evidence.claimed}
    cured = [
        name
        for name, tried in evidence.free_tensors()
        if tried.cured_by("own range") and _does_not_fit(evidence.found.figures[name])
    ]
    groups = evidence.blame.groups
    before, after = groups["activations"], groups["own ranges"]
    as_group = before >= WORTH_A_CURE and after < before / 2
    if not cured and not (as_group and off):
        return
    touched = {*cured, *off}
    where = sorted(touched, key=lambda name: -_alone(evidence, name))
    where = [name for name in where if _alone(evidence, name) >= _MATTERS * _alone(evidence, where[0])]
    if not as_group:  # something else is worse; blame what single tensors show
        worst = evidence.blame.tensors[cured[0]]
        before, after = worst.alone, worst.cures["own range"]
        where = cured
    evidence.claimed |= {name for name in touched if _own_range_helps(evidence, name)}
    inner = [name for name in where if not is_at_the_end(evidence, name)]
    if not inner:
        yield _saturated(evidence, where, before, after)
    elif _is_other_data(evidence):
        yield _other_data(evidence, where, before, after)
    elif all(_is_unused(evidence.found.figures[name]) for name in inner):
        yield _one_value(evidence, where, before, after)
    else:
        yield _few_samples(evidence, where, before, after)


def outlier_value(evidence: Evidence) -> Iterator[Finding]:
    """Find tensors whose range a handful of values stretches."""
    for name, tried in evidence.free_tensors():
        if not tried.cured_by("clipped") or tried.cures["clipped"] > 2 * tried.cures.get("per channel", np.inf):
            continue
        figures = evidence.found.figures[name]
        kept = figures.quantile_range(KEPT_SHARE) or (figures.low, figures.high)
        if kept[1] - kept[0] > _LOOSE * (figures.high - figures.low):
            continue
        evidence.claimed.add(name)
        yield accuracy(
            evidence, "outlier-value", [name], tried.alone, tried.cures["clipped"],
            f"99.9 % of its values lie in {kept[0]:.3g} .. {kept[1]:.3g}, all in {figures.low:.3g} .. "
            f"{figures.high:.3g}. Rounding it costs {percent(tried.alone)} at the outputs, without the rarest values "
            f"{percent(tried.cures['clipped'])}",
            "Calibrate this tensor with a percentile instead of the extremes.",
        )  # fmt: skip


def _saturated(evidence: Evidence, where: list[str], before: float, after: float) -> Finding:
    return accuracy(
        evidence, "saturated-output", where, before, after,
        f"{_story(evidence, where[0])}; all tensors before it fit. {_both(before, after)}",
        "Give outputs the range of their extremes (never a percentile), or keep the last op in float.",
    )  # fmt: skip


def _other_data(evidence: Evidence, where: list[str], before: float, after: float) -> Finding:
    first = next(iter(_first_tensors(evidence)), where[0])
    return accuracy(
        evidence, "calibration-unlike-data", [first, *(name for name in where if name != first)], before, after,
        f"{_story(evidence, first)}. {_both(before, after)}",
        "Calibrate with the same preprocessing as the samples ([preprocess] mean and scale), on such data.",
    )  # fmt: skip


def _one_value(evidence: Evidence, where: list[str], before: float, after: float) -> Finding:
    return accuracy(
        evidence, "outlier-value", where, before, after, f"{_story(evidence, where[0])}. {_both(before, after)}",
        "Calibrate with a percentile inside the network, or remove the calibration sample that reaches so far.",
    )  # fmt: skip


def _few_samples(evidence: Evidence, where: list[str], before: float, after: float) -> Finding:
    return accuracy(
        evidence, "few-calibration-samples", where, before, after,
        f"the input fits, but {_story(evidence, where[0])} ({len(where)} tensors leave their range). "
        f"{_both(before, after)}",
        "Calibrate on more and more varied samples; around 100 is usual.",
    )  # fmt: skip


def _own_range_helps(evidence: Evidence, name: str) -> bool:
    """Tell whether a tensor's range explains it: its own range cures it, or it was too small to try."""
    tried = evidence.blame.tensors.get(name)
    return tried is None or not tried.cures or tried.cured_by("own range")


def _does_not_fit(figures: TensorFigures) -> bool:
    """Tell whether a range is another than the samples', not only another grid, which may help by chance."""
    low, high = _range(figures)
    return _share(figures) > 0 or (figures.high - figures.low) < _LOOSE * (high - low)


def _alone(evidence: Evidence, name: str) -> float:
    """Return a tensor's error at the outputs; 0 where there was no time to try it."""
    tried = evidence.blame.tensors.get(name)
    return tried.alone if tried is not None else 0.0


def _both(before: float, after: float) -> str:
    return (
        f"With the artifact's ranges the outputs are off by {percent(before)}, with those of these samples by "
        f"{percent(after)}"
    )


def _story(evidence: Evidence, name: str) -> str:
    figures = evidence.found.figures[name]
    low, high = _range(figures)
    text = f"{name!r} can hold {low:.3g} .. {high:.3g}, the samples reach {figures.low:.3g} .. {figures.high:.3g}"
    share = _share(figures)
    return f"{text}, {percent(share)} of its values are clipped" if share else text


def _is_off(figures: TensorFigures) -> bool:
    return figures.form is not None and figures.form.per_tensor and bool(
        figures.values and (_share(figures) > _CLIPPED or _is_unused(figures))
    )  # fmt: skip


def _is_unused(figures: TensorFigures) -> bool:
    low, high = _range(figures)
    return (figures.high - figures.low) < _UNUSED * (high - low) and not _share(figures)


def _share(figures: TensorFigures) -> float:
    return (figures.below + figures.above) / figures.values if figures.values else 0.0


def _range(figures: TensorFigures) -> tuple[float, float]:
    return figures.form.range if figures.form is not None else (figures.low, figures.high)


def _first_tensors(evidence: Evidence) -> list[str]:
    """Return the int8 tensors that no op with weights comes before."""
    graph = evidence.found.graph
    fresh = set(graph.inputs)
    for op in graph.ops:
        if not op.weighted and all(name in fresh or name in graph.constants or not name for name in op.inputs):
            fresh |= set(op.outputs)
    return [name for name in _rounded_tensors(evidence) if name in fresh]


def _rounded_tensors(evidence: Evidence) -> list[str]:
    figures = evidence.found.figures
    return [name for name in evidence.found.pairs if name in figures and as_in_artifact(figures[name]) is not None]


def _is_other_data(evidence: Evidence) -> bool:
    first = [evidence.found.figures[name] for name in _first_tensors(evidence)]
    if first:
        return any(_leaves(figures) or _is_unused(figures) for figures in first)
    ratios = []
    for name in _rounded_tensors(evidence):
        figures = evidence.found.figures[name]
        low, high = _range(figures)
        ratios.append((figures.high - figures.low) / max(high - low, 1e-12))
    return bool(ratios) and not 1 / _FAR < float(np.median(ratios)) < _FAR


def _leaves(figures: TensorFigures) -> bool:
    low, high = _range(figures)
    margin = _BEYOND * (high - low)
    return figures.low < low - margin or figures.high > high + margin
