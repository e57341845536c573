"""Where an artifact answers otherwise than the float model: how often, and the test samples where it does most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.dataset import Boxes, Dataset
from edgekit.profile.accuracy import opened, sample_set
from edgekit.profile.thumbnails import thumbnail
from edgekit.progress import Progress
from edgekit.report.schema import Disagreement, Disagreements, SeenBox
from edgekit.tasks.average_precision import iou
from edgekit.tasks.classification import probabilities
from edgekit.tasks.predictions import load_predictions

Array = npt.NDArray[Any]
Prediction = dict[str, Array]
_SURE = 0.5  # of the float model's highest score of all samples, as in the agreement of plans
_ALSO_SEEN = 0.25  # so much is enough where the other model is sure: 0.51 against 0.49 is no disagreement
_SAME = 0.5  # IoU
_BOXES_SHOWN = 40
_PICTURES = 4
_ANSWERS = 6


def run(
    *, out: Path, progress: Progress, before: Path, after: Path, dataset: dict[str, Any], task: dict[str, Any]
) -> dict[str, Any]:
    """Return the fields of ``Disagreements``; writes nothing to ``out``.

    ``before``, ``after``: predictions.npz of the float model and of the artifact, on the samples of ``dataset``.
    Only samples that are shown are read as images. Raises StageError where the predictions are of other samples.
    """
    samples = opened(dataset, labelled=True)
    identity = sample_set(samples)
    pair = load_predictions(before, identity), load_predictions(after, identity)
    progress(0.5, f"comparing answers to {len(samples)} samples")
    return _KINDS[task["kind"]](samples, *pair).model_dump()


def boxes(samples: Dataset, before: Sequence[Prediction], after: Sequence[Prediction]) -> Disagreements:
    """Compare detections: ``boxes`` (n, 4) xyxy, ``scores`` (n,) and ``classes`` (n,) of every sample."""
    peak = max((float(found["scores"].max(initial=0.0)) for found in before), default=0.0)
    sure, seen = _SURE * peak, _ALSO_SEEN * peak
    gaps = np.zeros(len(before))
    differing = lost = won = 0
    for index, (one, other, truth) in enumerate(zip(before, after, samples.truth, strict=True)):
        gaps[index] = _gap(one, other, sure) + _gap(other, one, sure)
        differing += _alone(one, other, sure, seen) or _alone(other, one, sure, seen)
        lost += int((_found(truth, one, sure) & ~_found(truth, other, seen)).sum())
        won += int((_found(truth, other, sure) & ~_found(truth, one, seen)).sum())
    shown = []
    for index in _worst(gaps, _PICTURES):
        picture = thumbnail(samples, index)
        pair = (before[index], after[index]), (after[index], before[index])
        seen_by = [_drawn(one, other, sure, seen, samples.classes) for one, other in pair]
        shown.append(
            Disagreement(
                sample=samples.name(index), picture=picture.uri, width=picture.width, height=picture.height,
                gap=round(float(gaps[index]), 4), before=seen_by[0], after=seen_by[1],
            )
        )  # fmt: skip
    return Disagreements(samples=len(before), differing=differing, lost=lost, won=won, shown=shown)


def answers(samples: Dataset, before: Sequence[Prediction], after: Sequence[Prediction]) -> Disagreements:
    """Compare classifications: ``scores`` (classes,) of every sample."""
    one, other = (probabilities(np.stack([each["scores"] for each in side])) for side in (before, after))
    rows = np.arange(len(one))
    first, second, truth = one.argmax(axis=1), other.argmax(axis=1), np.asarray(samples.truth)
    gaps = (one[rows, first] - one[rows, second]) + (other[rows, second] - other[rows, first])
    changed = first != second
    shown = []
    for index in _worst(np.where(changed, gaps, 0.0), _ANSWERS):
        picture = thumbnail(samples, index)
        shown.append(
            Disagreement(
                sample=samples.name(index), picture=picture.uri, width=picture.width, height=picture.height,
                gap=round(float(gaps[index]), 4), truth=_label(samples.classes, int(truth[index])),
                answer_before=_answer(samples.classes, first[index], one[index]),
                answer_after=_answer(samples.classes, second[index], other[index]),
            )
        )  # fmt: skip
    return Disagreements(
        samples=len(one),
        differing=int(changed.sum()),
        lost=int(((first == truth) & changed).sum()),
        won=int(((second == truth) & changed).sum()),
        shown=shown,
    )


_KINDS = {"detection": boxes, "classification": answers}


def _worst(gaps: npt.NDArray[np.float64], count: int) -> list[int]:
    """Return the positions of the largest gaps above 0, the largest first, the earlier of equals first."""
    order = np.argsort(-gaps, kind="stable")[:count]
    return [int(index) for index in order if gaps[index] > 0]


def _overlaps(one: Prediction, other: Prediction) -> npt.NDArray[np.float64]:
    """Return (n, m) IoU, 0 for boxes of different classes."""
    same = one["classes"][:, np.newaxis] == other["classes"][np.newaxis, :]
    return np.where(same, iou(one["boxes"], other["boxes"]), 0.0)


def _gap(one: Prediction, other: Prediction, sure: float) -> float:
    """Return how much confidence of ``one``, in place and class, ``other`` lacks."""
    mine = _only(one, one["scores"] >= sure)
    matched = (_overlaps(mine, other) * other["scores"][np.newaxis, :]).max(axis=1, initial=0.0)
    return float(np.maximum(mine["scores"] - matched, 0.0).sum())


def _shared(one: Prediction, other: Prediction, least: float) -> Array:
    """Return (n,) whether ``other`` has a box of the same class at the same place, with at least that score."""
    rest = _only(other, other["scores"] >= least)
    fits: Array = _overlaps(one, rest).max(axis=1, initial=0.0) >= _SAME
    return fits


def _alone(one: Prediction, other: Prediction, sure: float, seen: float) -> bool:
    mine = _only(one, one["scores"] >= sure)
    return bool((~_shared(mine, other, seen)).any())


def _found(truth: Boxes, prediction: Prediction, least: float) -> Array:
    """Return (labels,) whether a detection with at least that score fits each labelled box."""
    return _shared({"boxes": truth.boxes, "classes": truth.classes}, prediction, least)


def _drawn(one: Prediction, other: Prediction, sure: float, seen: float, classes: Sequence[str]) -> list[SeenBox]:
    """Return what ``one`` is sure of, and what it also sees of what ``other`` is sure of, the best first."""
    strong = one["scores"] >= sure
    agreed = (one["scores"] >= seen) & _shared(one, other, sure)
    shared = np.where(strong, _shared(one, other, seen), agreed)
    rows = [row for row in np.argsort(-one["scores"], kind="stable") if strong[row] or agreed[row]][:_BOXES_SHOWN]
    found = []
    for row in rows:
        x1, y1, x2, y2 = (round(float(value), 1) for value in one["boxes"][row])
        label, score = _label(classes, int(one["classes"][row])), round(float(one["scores"][row]), 3)
        found.append(SeenBox(x1=x1, y1=y1, x2=x2, y2=y2, label=label, score=score, shared=bool(shared[row])))
    return found


def _only(prediction: Prediction, rows: Array) -> Prediction:
    return {name: values[rows] for name, values in prediction.items()}


def _label(classes: Sequence[str], index: int) -> str:
    return classes[index] if index < len(classes) else str(index)


def _answer(classes: Sequence[str], index: int, row: npt.NDArray[np.float64]) -> str:
    return f"{_label(classes, int(index))} ({100 * row[index]:.0f} %)"
