"""Decisions against the labels, where the samples have any: what the float model gets right and the artifact not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit import tasks
from edgekit.diagnose.agreement import OVERLAP, SURE
from edgekit.tasks.average_precision import iou

Array = npt.NDArray[Any]
Prediction = Mapping[str, Array]


@dataclass(frozen=True)
class Labelled:
    """The task's metric on both sides, 0 to 1: ``values`` and ``per_class`` as (float model, artifact).

    ``lost``: per sample, how many labels (boxes, or the one class) the float model finds and the artifact does not.
    """

    metric: str
    values: tuple[float, float]
    per_class: dict[str, tuple[float, float]]
    lost: list[int]


def against_labels(
    reference: Sequence[dict[str, Array]], outputs: Sequence[dict[str, Array]], truth: Any, task: Mapping[str, Any],
    classes: Sequence[str],
) -> Labelled | None:  # fmt: skip
    """Score both sides' outputs; None for a task without labels. ``truth``: of these samples, as a Dataset has it.

    Raises RecipeError where labels or outputs do not fit the task.
    """
    if task["kind"] not in _LOST or truth is None:
        return None
    scorer = tasks.load(task["kind"])
    scorer.check_truth(truth, classes)
    table = {**task, "classes": classes}
    right, got = ([scorer.decode(dict(each), table) for each in side] for side in (reference, outputs))
    before, after = (scorer.score(side, truth, classes) for side in (right, got))
    return Labelled(
        metric=before.metric,
        values=(before.value, after.value),
        per_class={name: (value, after.per_class.get(name, 0.0)) for name, value in before.per_class.items()},
        lost=[_LOST[task["kind"]](*sample) for sample in zip(right, got, truth, strict=True)],
    )


def _lost_class(right: Prediction, got: Prediction, truth: int) -> int:
    return int(np.argmax(right["scores"]) == truth != np.argmax(got["scores"]))


def _lost_boxes(right: Prediction, got: Prediction, truth: Any) -> int:
    before, after = (_found(side, truth, least) for side, least in ((right, SURE), (got, SURE / 2)))
    return int((before & ~after).sum())


def _found(side: Prediction, truth: Any, least: float) -> npt.NDArray[np.bool_]:
    """Tell for each labelled box whether a detection of its class, scored at least so, covers it."""
    found = np.zeros(len(truth.classes), bool)
    for index in np.unique(truth.classes):
        mine = truth.classes == index
        boxes = side["boxes"][(side["classes"] == index) & (side["scores"] >= least)]
        found[mine] = iou(truth.boxes[mine], boxes).max(axis=1, initial=0.0) >= OVERLAP
    return found


_LOST: dict[str, Callable[[Prediction, Prediction, Any], int]] = {
    "classification": _lost_class,
    "detection": _lost_boxes,
}
