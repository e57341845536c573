"""Object detection: boxes and class scores in, class-wise NMS, COCO mAP out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from faster_coco_eval import COCO, COCOeval_faster

from edgekit.dataset import Boxes
from edgekit.errors import RecipeError, StageError
from edgekit.tasks import Drop, Score
from edgekit.tasks.average_precision import IOU_THRESHOLDS, iou, match_detections, mean_average_precision
from edgekit.tasks.bootstrap import drop_from, resample_weights
from edgekit.tasks.decoders import RAW, SUPPRESSED

Array = npt.NDArray[Any]
Prediction = dict[str, Array]
PRIMARY = "mAP@[.5:.95]"
_SURE = 0.5
_CANDIDATES = 400  # at least so many of the best (box, class) pairs enter NMS, and ...
_CANDIDATES_PER_DETECTION = 4  # ... so many for each detection that may be kept; bounds the time at low thresholds


def check_truth(truth: Any, classes: Sequence[str]) -> None:
    """Raise RecipeError unless truth is a list of Boxes with at least one box, of named classes."""
    if not isinstance(truth, list) or not all(isinstance(boxes, Boxes) for boxes in truth):
        raise RecipeError(
            "Detection needs test samples with labelled boxes; data.test has none.",
            'Set data.kind = "coco" and data.test_labels to the annotations.',
        )
    if not any(len(boxes.classes) for boxes in truth):
        raise RecipeError("The test annotations hold no box, so nothing can be scored.")
    if max(int(boxes.classes.max(initial=0)) for boxes in truth) >= len(classes):
        raise RecipeError(f"The test annotations use more classes than the {len(classes)} that are named.")


def decode(outputs: Prediction, task: dict[str, Any]) -> Prediction:
    """Return ``boxes`` (n, 4) xyxy in pixels, ``scores`` (n,) and ``classes`` (n,), best first, after NMS.

    ``task["decoder"]`` says how outputs are read. Raises RecipeError where the model has no such outputs.
    """
    decoder = task.get("decoder", "boxes_scores")
    if decoder in SUPPRESSED:
        return SUPPRESSED[decoder](outputs, task)
    corners, scores = RAW[decoder](outputs, task)
    limit = max(_CANDIDATES, _CANDIDATES_PER_DETECTION * task["max_detections"])
    anchor, category, confidence = _candidates(scores, task["score_threshold"], limit)
    kept = _suppress(corners[anchor], category, task["nms_iou"], task["max_detections"])
    return {"boxes": corners[anchor[kept]], "scores": confidence[kept], "classes": category[kept]}


def score(predictions: Sequence[Prediction], truth: Sequence[Boxes], classes: Sequence[str]) -> Score:
    """Return mAP@[.5:.95], mAP@.5 and the AP of every class that has boxes, by faster-coco-eval."""
    precision = _precision(predictions, truth, classes)  # (IoUs, recalls, classes), -1 where undefined
    defined = precision[0, 0] > -1
    per_class = {name: float(precision[:, :, index].mean()) for index, name in enumerate(classes) if defined[index]}
    value, at_half = precision[:, :, defined].mean(), precision[0][:, defined].mean()
    return Score(PRIMARY, float(value), {"mAP@.5": float(at_half)}, per_class)


def drop(
    baseline_predictions: Sequence[Prediction], predictions: Sequence[Prediction], truth: Sequence[Boxes],
    classes: Sequence[str], resamples: int, seed: int,
) -> Drop:  # fmt: skip
    """Return baseline minus this in mAP@[.5:.95], resampled over the same images."""
    weights = np.concatenate(
        [
            np.ones((1, len(truth))),
            resample_weights(len(truth), resamples, seed),
        ]  # row 0: as they are
    )
    before, after = (
        mean_average_precision(match_detections(each, truth, len(classes)), weights)
        for each in (baseline_predictions, predictions)
    )
    difference = before - after
    return drop_from(float(difference[0]), difference[1:])


def agreement(baseline_predictions: Sequence[Prediction], predictions: Sequence[Prediction]) -> float:
    """Return mAP@[.5:.95] with the baseline's sure detections as the truth.

    Sure: a score of at least half the highest of all samples, so that a timid detector has some too.
    """
    peak = max((float(found["scores"].max(initial=0.0)) for found in baseline_predictions), default=0.0)
    truth = []
    for found in baseline_predictions:
        sure = found["scores"] >= _SURE * peak
        truth.append(Boxes(found["boxes"][sure], found["classes"][sure]))
    if not any(len(boxes.classes) for boxes in truth):
        raise StageError("The float model detects nothing on these samples, so nothing can agree with it.")
    count = 1 + max(int(found["classes"].max(initial=0)) for found in (*baseline_predictions, *predictions))
    matches = match_detections(predictions, truth, count)
    return float(mean_average_precision(matches, np.ones((1, len(truth))))[0])


def _candidates(scores: Array, threshold: float, limit: int) -> tuple[Array, Array, Array]:
    """Return box index, class and score of the ``limit`` best pairs above the threshold, best first."""
    above = scores > threshold
    if np.count_nonzero(above) > limit:  # most never matter: sort only what can be among the best
        above &= scores >= np.partition(scores, -limit, axis=None)[-limit]
    anchor, category = np.nonzero(above)
    confidence = scores[anchor, category]
    best = np.argsort(-confidence, kind="stable")[:limit]
    return anchor[best], category[best].astype(np.int64), confidence[best]


def _suppress(boxes: Array, category: Array, nms_iou: float, limit: int) -> list[int]:
    """Return the rows that greedy class-wise NMS keeps, at most ``limit``; rows come best first."""
    kept: list[int] = []
    for number in np.unique(category):
        rows = np.nonzero(category == number)[0]
        beaten = iou(boxes[rows], boxes[rows]) > nms_iou
        alive = np.ones(len(rows), bool)
        while alive.any():
            best = int(np.argmax(alive))
            kept.append(int(rows[best]))
            alive &= ~beaten[best]
            alive[best] = False  # an empty box does not overlap even itself
    return sorted(kept)[:limit]


def _precision(predictions: Sequence[Prediction], truth: Sequence[Boxes], classes: Sequence[str]) -> Array:
    """Return faster-coco-eval's precision at all object sizes and 100 detections."""
    numbers = range(1, len(truth) + 1)  # COCO takes an annotation id of 0 for "no match"
    annotations = [
        {"image_id": image, "category_id": int(category), "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        for image, boxes in zip(numbers, truth, strict=True)
        for category, box in zip(boxes.classes, _xywh(boxes.boxes), strict=True)
    ]
    ground_truth = COCO(
        {
            "images": [{"id": number} for number in numbers],
            "categories": [{"id": index, "name": name} for index, name in enumerate(classes)],
            "annotations": [{**entry, "id": index} for index, entry in enumerate(annotations, start=1)],
        }
    )
    detections = [
        {"image_id": image, "category_id": int(category), "bbox": box, "score": float(confidence)}
        for image, found in zip(numbers, predictions, strict=True)
        for category, box, confidence in zip(found["classes"], _xywh(found["boxes"]), found["scores"], strict=True)
    ]
    evaluator = COCOeval_faster(ground_truth, ground_truth.loadRes(detections), "bbox")
    evaluator.params.iouThrs = IOU_THRESHOLDS
    evaluator.evaluate()
    evaluator.accumulate()
    precision: Array = np.asarray(evaluator.eval["precision"])[:, :, :, 0, -1]
    return precision


def _xywh(boxes: Array) -> list[list[float]]:
    corners = boxes.astype(np.float64)
    result: list[list[float]] = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
    return result
