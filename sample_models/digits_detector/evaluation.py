"""Score the float detector on labelled scenes: class-wise NMS, then COCO mAP."""

import contextlib
import io
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from faster_coco_eval import COCO, COCOeval_faster

from sample_models.digits_detector.coco_files import read_images

SCORE_THRESHOLD = 0.01
NMS_IOU = 0.5
MAX_DETECTIONS = 100


def evaluate_detector(model: keras.Model, folder: Path, annotation_file: Path) -> tuple[float, float]:
    """Return mAP@[.5:.95] and mAP@.5 on the JPEG files of `folder`."""
    image_ids, images = read_images(folder, annotation_file)
    outputs = [model(images[start : start + 50], training=False) for start in range(0, len(images), 50)]
    boxes = np.concatenate([np.asarray(output["boxes"]) for output in outputs])
    scores = np.concatenate([np.asarray(output["scores"]) for output in outputs])
    detections: list[dict[str, Any]] = []
    for image_id, image_boxes, image_scores in zip(image_ids, boxes, scores, strict=True):
        detections += _detections_of_image(image_id, image_boxes, image_scores)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotation_file))
        evaluator = COCOeval_faster(truth, truth.loadRes(detections), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return float(evaluator.stats[0]), float(evaluator.stats[1])


def _detections_of_image(
    image_id: int, boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for category in range(scores.shape[1]):
        candidates = np.nonzero(scores[:, category] > SCORE_THRESHOLD)[0]
        for index in _suppress(boxes, scores[:, category], candidates):
            left, top, right, bottom = (float(value) for value in boxes[index])
            found.append({
                "image_id": image_id, "category_id": category, "score": float(scores[index, category]),
                "bbox": [left, top, right - left, bottom - top],
            })  # fmt: skip
    return sorted(found, key=lambda detection: -float(detection["score"]))[:MAX_DETECTIONS]


def _suppress(
    boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], candidates: npt.NDArray[np.intp]
) -> list[int]:
    """Greedy non-maximum suppression among `candidates`; returns the kept rows, best first."""
    rest = candidates[np.argsort(-scores[candidates], kind="stable")]
    kept: list[int] = []
    while len(rest):
        best, rest = int(rest[0]), rest[1:]
        kept.append(best)
        rest = rest[_iou(boxes[best], boxes[rest]) <= NMS_IOU]
    return kept


def _iou(box: npt.NDArray[np.float32], others: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    corner = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = np.prod(np.maximum(corner, 0.0), axis=1)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    result: npt.NDArray[np.float32] = shared / (np.prod(box[2:] - box[:2]) + areas - shared + 1e-9)
    return result
