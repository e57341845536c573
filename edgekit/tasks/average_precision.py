"""COCO average precision with a weight per image: a bootstrap matches boxes once, not once per resample.

Same definition as pycocotools (greedy matching by score, 101-point interpolation, at most 100 detections per
image and class); a test holds the figure at weight 1 to faster-coco-eval's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.dataset import Boxes

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 100
_RECALLS = np.linspace(0.0, 1.0, 101)
_CHUNK_VALUES = 4_000_000  # weights of resamples x detections held at once: 32 MB


@dataclass(frozen=True)
class ClassMatches:
    """One class, detections by falling score: ``image`` (D,), ``hit`` (IoUs, D), ``truths`` (images,)."""

    image: npt.NDArray[np.int64]
    hit: npt.NDArray[np.bool_]
    truths: npt.NDArray[np.int64]


def match_detections(
    predictions: Sequence[dict[str, Array]], truth: Sequence[Boxes], class_count: int
) -> list[ClassMatches]:
    """Match every image's detections to its boxes, class by class and IoU threshold by IoU threshold."""
    found: list[list[tuple[int, Floats, npt.NDArray[np.bool_]]]] = [[] for _ in range(class_count)]
    truths = np.zeros((class_count, len(truth)), np.int64)
    for image, (prediction, boxes) in enumerate(zip(predictions, truth, strict=True)):
        np.add.at(truths[:, image], boxes.classes, 1)
        for index in np.unique(prediction["classes"]):
            rows = np.nonzero(prediction["classes"] == index)[0]
            scores = prediction["scores"][rows].astype(np.float64)
            order = np.argsort(-scores, kind="stable")[:MAX_DETECTIONS]
            overlaps = iou(prediction["boxes"][rows[order]], boxes.boxes[boxes.classes == index])
            found[int(index)].append((image, scores[order], _hits(overlaps)))
    return [_joined(entries, truths[index]) for index, entries in enumerate(found)]


def mean_average_precision(matches: Sequence[ClassMatches], weights: Floats) -> Floats:
    """Return mAP@[.5:.95] for each row of ``weights`` (rows, images); NaN where no class has a box."""
    per_class = np.stack([average_precision(each, weights) for each in matches])
    defined = np.isfinite(per_class)
    count = defined.sum(axis=0)
    total = np.where(defined, per_class, 0.0).sum(axis=0)
    mean: Floats = np.divide(total, count, out=np.full(len(weights), np.nan), where=count > 0)
    return mean


def average_precision(matches: ClassMatches, weights: Floats) -> Floats:
    """Return one class's AP (mean over IoU thresholds) per row of ``weights``; NaN where it has no box."""
    rows = max(1, _CHUNK_VALUES // max(1, len(matches.image)))
    starts = range(0, len(weights), rows)
    return np.concatenate([_average_precision(matches, weights[start : start + rows]) for start in starts])


def iou(left: Array, right: Array) -> Floats:
    """Return (n, m) intersection over union of xyxy boxes (n, 4) and (m, 4); 0 where both are empty."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    ends = np.minimum(a[:, np.newaxis, 2:], b[np.newaxis, :, 2:])
    starts = np.maximum(a[:, np.newaxis, :2], b[np.newaxis, :, :2])
    shared = np.prod(np.maximum(ends - starts, 0.0), axis=2)
    areas = np.prod(a[:, 2:] - a[:, :2], axis=1)[:, np.newaxis] + np.prod(b[:, 2:] - b[:, :2], axis=1)
    union = areas - shared
    overlap: Floats = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return overlap


def _average_precision(matches: ClassMatches, weights: Floats) -> Floats:
    boxes = weights @ matches.truths.astype(np.float64)
    of_detection = weights[:, matches.image]
    ranked = np.cumsum(of_detection, axis=1)
    total = np.zeros(len(weights))
    for hit in matches.hit:
        columns = np.nonzero(hit)[0]  # precision peaks at hits only, so nothing else is interpolated
        total += _interpolated(np.cumsum(of_detection[:, columns], axis=1), ranked[:, columns], boxes)
    return np.where(boxes > 0, total / len(matches.hit), np.nan)


def _interpolated(hits: Floats, ranked: Floats, boxes: Floats) -> Floats:
    """Return the 101-point mean precision per row; ``hits`` and ``ranked`` are (rows, hits) running sums."""
    precision = hits / (ranked + np.spacing(1.0))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    envelope = np.pad(envelope, ((0, 0), (0, 1)))  # precision 0 at recalls that are never reached
    recall = hits / np.maximum(boxes, 1.0)[:, np.newaxis]
    lines = zip(envelope, recall, strict=True)
    return np.array([line[np.searchsorted(reached, _RECALLS)].mean() for line, reached in lines])


def _hits(overlaps: Floats) -> npt.NDArray[np.bool_]:
    """Return (IoUs, detections): does a detection, best first, find a box that none before it took?"""
    detections, boxes = overlaps.shape
    hits = np.zeros((len(IOU_THRESHOLDS), detections), bool)
    if not boxes:
        return hits
    free = np.ones((len(IOU_THRESHOLDS), boxes), bool)
    rows = np.arange(len(IOU_THRESHOLDS))
    for detection in np.nonzero(overlaps.max(axis=1) >= IOU_THRESHOLDS[0])[0]:
        line = overlaps[detection]
        able = free & (line >= IOU_THRESHOLDS[:, np.newaxis])
        # Of boxes that overlap equally, COCO takes the last.
        best = boxes - 1 - np.argmax(np.where(able, line, -1.0)[:, ::-1], axis=1)
        hits[:, detection] = able.any(axis=1)
        free[rows, best] &= ~hits[:, detection]
    return hits


def _joined(entries: list[tuple[int, Floats, npt.NDArray[np.bool_]]], truths: npt.NDArray[np.int64]) -> ClassMatches:
    if not entries:
        return ClassMatches(np.zeros(0, np.int64), np.zeros((len(IOU_THRESHOLDS), 0), bool), truths)
    image = np.concatenate([np.full(len(scores), number) for number, scores, _ in entries])
    order = np.argsort(-np.concatenate([scores for _, scores, _ in entries]), kind="stable")
    hits = np.concatenate([hits for _, _, hits in entries], axis=1)
    return ClassMatches(image[order], hits[:, order], truths)
