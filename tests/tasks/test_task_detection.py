"""Detection: decoding, NMS, COCO mAP, and the bootstrap that reproduces it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scenes import floats, scenes

from edgekit.dataset import Boxes
from edgekit.errors import RecipeError
from edgekit.tasks import detection
from edgekit.tasks.average_precision import match_detections, mean_average_precision

TASK: dict[str, Any] = {
    "boxes_output": "boxes",
    "scores_output": "scores",
    "score_threshold": 0.1,
    "nms_iou": 0.5,
    "max_detections": 100,
    "classes": ("cat", "dog"),
}
# Two sums of a few hundred doubles in another order differ by some 1e-16 each.
ROUNDING = 1e-9


def decode(boxes: Any, scores: Any, **changes: Any) -> dict[str, npt.NDArray[Any]]:
    outputs = {"boxes": np.array([boxes], np.float32), "scores": np.array([scores], np.float32)}
    return detection.decode(outputs, {**TASK, **changes})


class TestDecode:
    def test_of_overlapping_boxes_of_one_class_the_best_stays(self) -> None:
        found = decode([[0, 0, 10, 10], [1, 0, 11, 10], [40, 40, 50, 50]], [[0.5, 0], [0.9, 0], [0.3, 0]])
        np.testing.assert_array_equal(found["boxes"], [[1, 0, 11, 10], [40, 40, 50, 50]])
        np.testing.assert_array_equal(found["scores"], floats([0.9, 0.3]))
        np.testing.assert_array_equal(found["classes"], [0, 0])

    def test_boxes_of_other_classes_do_not_suppress_each_other(self) -> None:
        found = decode([[0, 0, 10, 10], [0, 0, 10, 10]], [[0.5, 0], [0, 0.9]])
        np.testing.assert_array_equal(found["classes"], [1, 0])

    def test_scores_at_or_below_the_threshold_are_gone(self) -> None:
        assert len(decode([[0, 0, 1, 1], [5, 5, 6, 6]], [[0.5, 0.1], [0.6, 0.4]], score_threshold=0.5)["scores"]) == 1

    def test_at_most_max_detections_are_kept_best_first(self) -> None:
        boxes = [[20 * i, 0, 20 * i + 5, 5] for i in range(6)]
        scores = [[0.2 + 0.1 * i, 0] for i in range(6)]
        found = decode(boxes, scores, max_detections=2)
        np.testing.assert_array_equal(found["scores"], floats([0.7, 0.6]))

    def test_nothing_found_is_an_empty_prediction(self) -> None:
        found = decode([[0, 0, 1, 1]], [[0, 0]])
        assert {name: array.shape for name, array in found.items()} == {
            "boxes": (0, 4),
            "scores": (0,),
            "classes": (0,),
        }

    def test_empty_boxes_do_not_hang_it(self) -> None:
        assert len(decode([[5, 5, 5, 5], [9, 9, 2, 2]], [[0.5, 0], [0.4, 0]])["scores"]) == 2

    def test_agrees_with_suppression_written_as_a_loop(self) -> None:
        random = np.random.default_rng(3)
        corners = random.uniform(0, 60, (150, 2))
        boxes = np.concatenate([corners, corners + random.uniform(5, 30, (150, 2))], axis=1).astype(np.float32)
        scores = random.uniform(0, 1, (150, 2)).astype(np.float32)
        found = decode(boxes, scores, score_threshold=0.2, max_detections=1000)
        assert sorted(zip(found["classes"].tolist(), found["scores"].tolist(), strict=True)) == sorted(
            (category, float(scores[index, category]))
            for category in range(2)
            for index in looped_suppression(boxes, scores[:, category], 0.2)
        )

    def test_the_best_candidates_enter_where_most_are_above_the_threshold(self) -> None:
        boxes = [[20 * (i % 50), 20 * (i // 50), 20 * (i % 50) + 5, 20 * (i // 50) + 5] for i in range(1500)]
        scores = [[0.2 + i / 3000, 0] for i in range(1500)]
        found = decode(boxes, scores, max_detections=3)
        np.testing.assert_array_equal(found["scores"], floats([0.2 + i / 3000 for i in (1499, 1498, 1497)]))

    def test_a_missing_output_names_what_the_model_has(self) -> None:
        with pytest.raises(RecipeError, match=r"no output 'boxes'.*task\.boxes_output.*it has a, scores"):
            detection.decode({"a": np.zeros((1, 2, 4)), "scores": np.zeros((1, 2, 2))}, TASK)

    def test_swapped_outputs_are_refused_with_both_shapes(self) -> None:
        with pytest.raises(RecipeError, match=r"found \(1, 3, 2\) and \(1, 3, 4\)"):
            detection.decode({"boxes": np.zeros((1, 3, 2)), "scores": np.zeros((1, 3, 4))}, TASK)

    def test_another_number_of_classes_is_refused(self) -> None:
        with pytest.raises(RecipeError, match=r"scores 3 classes, task.classes names 2"):
            decode([[0, 0, 1, 1]], [[0, 0, 0]])

    def test_integer_outputs_are_refused(self) -> None:
        with pytest.raises(RecipeError, match="int8"):
            detection.decode({"boxes": np.zeros((1, 1, 4), np.int8), "scores": np.zeros((1, 1, 2))}, TASK)


def looped_suppression(boxes: npt.NDArray[np.float32], scores: npt.NDArray[np.float32], threshold: float) -> list[int]:
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if scores[index] > threshold and all(overlap(boxes[index], boxes[other]) <= 0.5 for other in kept):
            kept.append(int(index))
    return kept


def overlap(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> float:
    (ax, ay, ar, ab), (bx, by, br, bb) = a.tolist(), b.tolist()
    shared: float = max(0.0, min(ar, br) - max(ax, bx)) * max(0.0, min(ab, bb) - max(ay, by))
    union: float = (ar - ax) * (ab - ay) + (br - bx) * (bb - by) - shared
    return shared / union


class TestScore:
    def test_finding_exactly_the_truth_is_one_and_nothing_is_zero(self) -> None:
        truth = [Boxes(floats([[0, 0, 10, 10]]), np.array([0])), Boxes(floats([[5, 5, 9, 9]]), np.array([1]))]
        right = [{"boxes": t.boxes, "scores": floats([0.9]), "classes": t.classes} for t in truth]
        score = detection.score(right, truth, ["cat", "dog"])
        assert score.metric == "mAP@[.5:.95]"
        assert score.value == pytest.approx(1.0)
        assert score.secondary == {"mAP@.5": pytest.approx(1.0)}
        nothing = [{name: array[:0] for name, array in one.items()} for one in right]
        assert detection.score(nothing, truth, ["cat", "dog"]).value == 0.0

    def test_a_class_without_boxes_has_no_figure_and_does_not_count(self) -> None:
        predictions, truth = scenes(20, 2, seed=1)
        score = detection.score(predictions, truth, ["a", "b", "never"])
        assert list(score.per_class) == ["a", "b"]
        assert score.value == pytest.approx(np.mean(list(score.per_class.values())), abs=ROUNDING)

    def test_it_prints_nothing(self, capfd: pytest.CaptureFixture[str]) -> None:
        detection.score(*scenes(5, 2, seed=1), classes=["a", "b"])
        assert capfd.readouterr() == ("", "")

    def test_truth_of_another_task_is_refused(self) -> None:
        with pytest.raises(RecipeError, match="labelled boxes"):
            detection.check_truth(np.array([0, 1]), ["a", "b"])
        with pytest.raises(RecipeError, match="no box"):
            detection.check_truth([Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))], ["a"])


class TestBootstrap:
    @pytest.mark.parametrize("seed", range(4))
    @pytest.mark.parametrize(("clutter", "steps"), [(12, 0), (12, 16), (260, 64)], ids=["plain", "ties", "crowded"])
    def test_at_weight_one_it_is_faster_coco_eval(self, seed: int, clutter: int, steps: int) -> None:
        predictions, truth = scenes(25, 2, seed=seed, clutter=clutter, score_steps=steps)
        classes = ["a", "b", "never"]
        own = mean_average_precision(match_detections(predictions, truth, 3), np.ones((1, 25)))
        assert own[0] == pytest.approx(detection.score(predictions, truth, classes).value, abs=ROUNDING)

    def test_a_weight_is_a_repeated_image(self) -> None:
        predictions, truth = scenes(12, 2, seed=5)
        weights = np.array([0, 3, 1, 2, 0, 1, 1, 1, 4, 0, 2, 1])
        order = np.repeat(np.arange(12), weights)
        repeated = detection.score([predictions[i] for i in order], [truth[i] for i in order], ["a", "b"])
        own = mean_average_precision(match_detections(predictions, truth, 2), weights[np.newaxis].astype(float))
        assert own[0] == pytest.approx(repeated.value, abs=ROUNDING)

    def test_the_drop_is_the_difference_of_the_scores_within_its_interval(self) -> None:
        predictions, truth = scenes(60, 3, seed=2)
        worse = [{**one, "boxes": one["boxes"] + np.float32(2.5)} for one in predictions]
        classes = ["a", "b", "c"]
        drop = detection.drop(predictions, worse, truth, classes, 100, 0)
        before, after = (detection.score(each, truth, classes).value for each in (predictions, worse))
        assert drop.points == pytest.approx(100 * (before - after), abs=100 * ROUNDING)
        assert 0 < drop.low_points < drop.points < drop.high_points
        assert drop == detection.drop(predictions, worse, truth, classes, 100, 0)
        assert drop != detection.drop(predictions, worse, truth, classes, 100, 1)

    def test_equal_predictions_have_no_drop_and_no_interval(self) -> None:
        predictions, truth = scenes(20, 2, seed=2)
        drop = detection.drop(predictions, predictions, truth, ["a", "b"], 50, 0)
        assert (drop.points, drop.low_points, drop.high_points) == (0, 0, 0)

    @pytest.mark.slow
    def test_two_hundred_resamples_of_five_hundred_images_take_seconds(self) -> None:
        predictions, truth = scenes(500, 10, seed=0, boxes=6, clutter=90)
        start = time.process_time()
        detection.drop(predictions, predictions, truth, [str(i) for i in range(10)], 200, 0)
        assert time.process_time() - start < 5.0
