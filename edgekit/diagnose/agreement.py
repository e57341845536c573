"""Decisions, class by class: how often the artifact decides what the float model decides. Needs no labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit import tasks
from edgekit.diagnose.schema import ClassAgreement
from edgekit.tasks.average_precision import iou

Array = npt.NDArray[Any]
Prediction = Mapping[str, Array]
OVERLAP = 0.5
SURE = 0.25  # detections the float model itself scores lower decide nothing


def agreement(
    reference: Sequence[dict[str, Array]], outputs: Sequence[dict[str, Array]], task: Mapping[str, Any],
    classes: Sequence[str],
) -> list[ClassAgreement]:  # fmt: skip
    """Compare decoded outputs; empty for tasks without classes. Raises RecipeError where outputs do not fit."""
    if task["kind"] not in _COUNTS:
        return []
    scorer = tasks.load(task["kind"])
    table = {**task, "classes": classes}
    totals: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for right, got in zip(reference, outputs, strict=True):
        _COUNTS[task["kind"]](scorer.decode(dict(right), table), scorer.decode(dict(got), table), totals)
    return [
        ClassAgreement(name=classes[index] if index < len(classes) else str(index), count=count, agreement=same / count)
        for index, (count, same) in sorted(totals.items())
    ]


def _classified(right: Prediction, got: Prediction, totals: dict[int, list[int]]) -> None:
    chosen = int(np.argmax(right["scores"]))
    totals[chosen][0] += 1
    totals[chosen][1] += int(np.argmax(got["scores"]) == chosen)


def _detected(right: Prediction, got: Prediction, totals: dict[int, list[int]]) -> None:
    sure = right["scores"] >= SURE
    for index in np.unique(right["classes"][sure]):
        boxes = right["boxes"][sure & (right["classes"] == index)]
        others = got["boxes"][(got["classes"] == index) & (got["scores"] >= SURE / 2)]
        overlaps = iou(boxes, others)
        totals[int(index)][0] += len(boxes)
        totals[int(index)][1] += int((overlaps.max(axis=1, initial=0.0) >= OVERLAP).sum())


_COUNTS: dict[str, Callable[[Prediction, Prediction, dict[int, list[int]]], None]] = {
    "classification": _classified,
    "detection": _detected,
}
