"""Every decoder reads the same detections out of its own family's outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgekit.errors import RecipeError
from edgekit.tasks import detection

Array = npt.NDArray[Any]
TASK: dict[str, Any] = {
    "boxes_output": "boxes",
    "scores_output": "scores",
    "detections_output": "detections",
    "score_threshold": 0.1,
    "nms_iou": 0.5,
    "max_detections": 100,
    "classes": ("cat", "dog", "cow"),
}
CORNERS = np.array([[10, 20, 30, 60], [50, 5, 90, 25], [11, 20, 31, 60]], np.float32)
CENTRES = np.stack([(CORNERS[:, 0] + CORNERS[:, 2]) / 2, (CORNERS[:, 1] + CORNERS[:, 3]) / 2], axis=1)
CENTRED = np.concatenate([CENTRES, CORNERS[:, 2:] - CORNERS[:, :2]], axis=1)
SCORES = np.array([[0.9, 0.0, 0.0], [0.0, 0.0, 0.6], [0.7, 0.0, 0.0]], np.float32)


def decoded(outputs: dict[str, Array], **options: Any) -> dict[str, Array]:
    return detection.decode(outputs, {**TASK, **options})


def check(found: dict[str, Array]) -> None:
    np.testing.assert_allclose(found["boxes"], CORNERS[:2], atol=1e-4)
    np.testing.assert_allclose(found["scores"], [0.9, 0.6], atol=1e-6)
    np.testing.assert_array_equal(found["classes"], [0, 2])


def joined(*columns: Array) -> dict[str, Array]:
    return {"detections": np.concatenate(columns, axis=1)[np.newaxis]}


def test_rows_are_read_either_way_up() -> None:
    outputs = joined(CORNERS, SCORES)
    check(decoded(outputs, decoder="rows"))
    check(decoded({"detections": outputs["detections"].transpose(0, 2, 1)}, decoder="rows"))


def test_rows_without_named_classes_are_longer_than_wide() -> None:
    many = np.concatenate([CORNERS, np.tile(CORNERS[2:], (9, 1))])
    outputs = joined(many, np.concatenate([SCORES, np.zeros((9, 3), np.float32)]))
    check(decoded(outputs, decoder="rows", classes=()))
    check(decoded({"detections": outputs["detections"].transpose(0, 2, 1)}, decoder="rows", classes=()))


def test_objectness_multiplies_the_scores() -> None:
    halves = np.full((3, 1), 0.5, np.float32)
    found = decoded(joined(CENTRED, halves, SCORES), decoder="rows", objectness=True, box_format="cxcywh")
    np.testing.assert_allclose(found["scores"], [0.45, 0.3], atol=1e-6)


@pytest.mark.parametrize(
    ("format", "boxes"), [("xyxy", CORNERS), ("yxyx", CORNERS[:, [1, 0, 3, 2]]), ("cxcywh", CENTRED)]
)
def test_boxes_come_as_corners_or_centre_and_size(format: str, boxes: Array) -> None:
    check(decoded({"boxes": boxes[None], "scores": SCORES[None]}, box_format=format))
    check(decoded(joined(boxes, SCORES), decoder="rows", box_format=format))


def test_final_rows_are_taken_as_they_are_best_first() -> None:
    rows = np.array([[50, 5, 90, 25, 0.6, 2], [10, 20, 30, 60, 0.9, 0], [0, 0, 0, 0, 0, 0]], np.float32)
    check(decoded({"detections": rows[None]}, decoder="final"))


@pytest.mark.parametrize(
    ("decoder", "shape", "message"),
    [
        ("rows", (1, 7, 3, 2), r"reads \(1, N, 4 \+ C\)"),
        ("rows", (1, 9, 4), r"reads \(1, N, 4 \+ C\)"),
        ("rows", (1, 90, 9), r"scores 5 classes, task.classes names 3"),
        ("final", (1, 90, 9), r"reads \(1, N, 6\)"),
    ],
)
def test_another_shape_is_refused_with_what_was_found(decoder: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        decoded({"detections": np.zeros(shape, np.float32)}, decoder=decoder)


def test_a_class_that_is_not_named_is_refused() -> None:
    rows = np.array([[[0, 0, 1, 1, 0.9, 7]]], np.float32)
    with pytest.raises(RecipeError, match=r"found class 7; task.classes names 3"):
        decoded({"detections": rows}, decoder="final")
