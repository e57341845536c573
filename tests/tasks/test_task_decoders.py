"""Every decoder reads the same detections out of its own family's outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgekit.bundle.runners import edgekit_run
from edgekit.errors import RecipeError
from edgekit.recipe import TaskTable
from edgekit.tasks import detection

Array = npt.NDArray[Any]
TASK: dict[str, Any] = {
    "boxes_output": "boxes",
    "scores_output": "scores",
    "classes_output": "classes",
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


def test_relative_boxes_are_scaled_by_the_image() -> None:
    height, width = 80, 160
    relative = CORNERS / np.array([width, height, width, height], np.float32)
    options = {"box_scale": "relative", "image_size": (height, width)}
    check(decoded({"boxes": relative[None], "scores": SCORES[None]}, **options))
    check(decoded(joined(relative[:, [1, 0, 3, 2]], SCORES), decoder="rows", box_format="yxyx", **options))


def test_logits_get_their_sigmoid() -> None:
    logits = np.log(SCORES.clip(1e-6) / (1 - SCORES.clip(1e-6)))
    check(decoded({"boxes": CORNERS[None], "scores": logits[None]}, score_logits=True))


def test_lists_of_tf_object_detection() -> None:
    outputs = {
        "boxes": CORNERS[None, [1, 0, 2]],
        "scores": np.array([[0.6, 0.9, 0.0]], np.float32),
        "classes": np.array([[2, 0, 0]], np.float32),
    }
    check(decoded(outputs, decoder="lists"))
    with pytest.raises(RecipeError, match=r"'classes' is \(1, 2\)"):
        decoded({**outputs, "classes": outputs["classes"][:, :2]}, decoder="lists")


def centres(*, stride: int = 4, unit: float = 1.0) -> dict[str, Array]:
    """Draw the first two boxes as peaks, the first one's neighbour nearly as high, on a map of 24 places a side."""
    heat, sizes, offsets = (np.zeros((1, 24, 24, channels), np.float32) for channels in (3, 2, 2))
    for box, score in zip(CENTRED[:2], SCORES[:2], strict=True):
        x, y = box[:2] / stride
        heat[0, int(y), int(x)] = score
        heat[0, int(y), int(x) + 1] = score * 0.99
        sizes[0, int(y), int(x)] = box[2:] / unit
        offsets[0, int(y), int(x)] = x % 1, y % 1
    return {"scores": heat, "boxes": sizes, "offsets": offsets}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("unit", ["pixels", "places"])
def test_peaks_of_a_heatmap_in_either_layout(first: bool, unit: str) -> None:
    outputs = centres(unit=4.0 if unit == "places" else 1.0)
    if first:
        outputs = {name: array.transpose(0, 3, 1, 2) for name, array in outputs.items()}
    check(decoded(outputs, decoder="heatmap", offsets_output="offsets", size_unit=unit, stride=4))


def test_a_heatmap_without_offsets_means_the_middle_of_each_place() -> None:
    outputs = centres()
    outputs.pop("offsets")
    found = decoded(outputs, decoder="heatmap", stride=4)
    middle = (found["boxes"][:, :2] + found["boxes"][:, 2:]) / 2
    np.testing.assert_allclose(middle, [[22, 42], [70, 14]], atol=1e-4)
    np.testing.assert_allclose(found["boxes"][:, 2] - found["boxes"][:, 0], [20, 40], atol=1e-4)


def test_a_heatmap_that_does_not_fit_its_sizes_is_refused() -> None:
    outputs = centres()
    with pytest.raises(RecipeError, match=r"sizes \(1, H, W, 2\)"):
        decoded({**outputs, "boxes": outputs["boxes"][:, :12]}, decoder="heatmap")


@pytest.mark.parametrize(
    ("options", "outputs"),
    [
        ({"decoder": "heatmap", "offsets_output": "offsets"}, centres()),
        ({"decoder": "heatmap", "size_unit": "places"}, {**centres(unit=4.0)}),
        ({"decoder": "rows", "box_scale": "relative", "image_size": (80, 160)}, joined(CORNERS / 160, SCORES)),
        ({"decoder": "rows", "objectness": True, "score_logits": True}, joined(CORNERS, SCORES[:, :1], SCORES)),
        (
            {"decoder": "lists", "box_format": "yxyx"},
            {"boxes": CORNERS[None], "scores": SCORES[None, :, 0], "classes": np.zeros((1, 3), np.float32)},
        ),
    ],
)
def test_the_runner_beside_an_artifact_reads_them_alike(options: dict[str, Any], outputs: dict[str, Array]) -> None:
    """It is copied to devices without edgekit, so it has a decoder of its own."""
    task = TaskTable(kind="detection", score_threshold=0.1, **options).model_dump(mode="json")
    expected = detection.decode(outputs, {**task, "classes": TASK["classes"]})
    found = edgekit_run.detect(outputs, {"task": task, "labels": list(TASK["classes"])})
    assert [item["label"] for item in found] == [TASK["classes"][number] for number in expected["classes"]]
    np.testing.assert_allclose([item["box"] for item in found], expected["boxes"], atol=0.01)
    np.testing.assert_allclose([item["score"] for item in found], expected["scores"], atol=1e-4)
    assert found
