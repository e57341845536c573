from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import truth_of_squares

from edgekit.dataset import Boxes
from edgekit.prune.keras.signature import as_tensors, predict
from edgekit.prune.recovery.losses import DETECTION
from edgekit.prune.recovery.losses.assignment import ROWS_PER_BOX, assign
from edgekit.prune.recovery.losses.heatmap import radius
from edgekit.prune.recovery.losses.truth import padded_boxes
from edgekit.tasks import detection

pytestmark = pytest.mark.slow

Array = np.ndarray[Any, Any]
Outputs = dict[str, Array]
SIZE = (48, 64)  # height, width: unlike, so that a mix-up shows
CLASSES = ("a", "b", "c")
TRUTH = [
    Boxes(np.array([[4, 6, 20, 26], [30, 8, 58, 40]], np.float32), np.array([2, 0])),
    Boxes(np.array([[10, 10, 40, 30]], np.float32), np.array([1])),
]
ROWS, BACKGROUND = 40, 1e-4


def table(**keys: Any) -> dict[str, Any]:
    """Return the recipe's [task] with every key the decoders read."""
    named = {"boxes_output": "boxes", "scores_output": "scores", "detections_output": "detections"}
    shared = {"kind": "detection", "score_threshold": 0.3, "nms_iou": 0.5, "max_detections": 10, "classes": CLASSES}
    return {**shared, **named, "image_size": SIZE, **keys}


def written(corners: Array, task: dict[str, Any]) -> Array:
    """Write corners in pixels the way the recipe says the network does."""
    height, width = SIZE
    boxes = corners / np.array([width, height, width, height]) if task.get("box_scale") == "relative" else corners
    a, b, c, d = np.moveaxis(boxes, -1, 0)
    kinds = {"xyxy": (a, b, c, d), "yxyx": (b, a, d, c), "cxcywh": ((a + c) / 2, (b + d) / 2, c - a, d - b)}
    return np.stack(kinds[task.get("box_format", "xyxy")], -1).astype(np.float32)


def logit(scores: Array) -> Array:
    return np.log(scores) - np.log1p(-scores)


def perfect_rows(task: dict[str, Any]) -> Outputs:
    """Return outputs that name every true box once, surely, and nothing else."""
    generator = np.random.default_rng(0)
    corners = np.tile(np.array([50, 2, 60, 5], np.float32), (len(TRUTH), ROWS, 1))
    scores = np.full((len(TRUTH), ROWS, len(CLASSES)), BACKGROUND, np.float32)
    for image, sample in enumerate(TRUTH):
        places = generator.permutation(ROWS)[: len(sample.classes)]
        corners[image, places], scores[image, places, sample.classes] = sample.boxes, 1 - BACKGROUND
    boxes = written(corners, task)
    if task["decoder"] == "boxes_scores":
        return {"boxes": boxes, "scores": logit(scores) if task.get("score_logits") else scores}
    if task.get("objectness"):
        scores = np.concatenate([scores.max(-1, keepdims=True), np.where(scores > 0.5, scores, 0.01)], -1)
    joined = np.concatenate([boxes, logit(scores) if task.get("score_logits") else scores], -1).astype(np.float32)
    return {"detections": joined.transpose(0, 2, 1) if task.get("turned") else joined}


def perfect_maps(task: dict[str, Any]) -> Outputs:
    stride = task["stride"]
    height, width = (side // stride for side in SIZE)
    scores = np.full((len(TRUTH), height, width, len(CLASSES)), BACKGROUND, np.float32)
    sizes, offsets = (np.zeros((len(TRUTH), height, width, 2), np.float32) for _ in range(2))
    for image, sample in enumerate(TRUTH):
        centres = (sample.boxes[:, :2] + sample.boxes[:, 2:]) / 2 / stride
        x, y = centres.astype(int).T
        scores[image, y, x, sample.classes] = 1 - BACKGROUND
        offsets[image, y, x] = centres - np.floor(centres)
        unit = stride if task.get("size_unit") == "places" else 1
        sizes[image, y, x] = (sample.boxes[:, 2:] - sample.boxes[:, :2]) / unit
    maps = {"scores": logit(scores) if task.get("score_logits") else scores, "boxes": sizes, "offsets": offsets}
    return {name: value.transpose(0, 3, 1, 2) if task.get("channels_first") else value for name, value in maps.items()}


FORMATS = [
    table(decoder="boxes_scores", box_format=form, box_scale=scale, score_logits=logits)
    for form, scale, logits in product(("xyxy", "yxyx", "cxcywh"), ("pixels", "relative"), (False, True))
]
FORMATS += [
    table(decoder="rows", objectness=objectness, score_logits=logits, turned=turned, box_format="cxcywh")
    for objectness, logits, turned in product((False, True), repeat=3)
]
FORMATS += [
    table(decoder="heatmap", stride=stride, size_unit=unit, score_logits=logits, channels_first=first,
          offsets_output="offsets")
    for stride, unit, logits, first in [(4, "pixels", False, False), (8, "places", True, True), (2, "places", True, 0)]
]  # fmt: skip


def outputs_of(task: dict[str, Any]) -> Outputs:
    return perfect_maps(task) if task["decoder"] == "heatmap" else perfect_rows(task)


def loss_of(task: dict[str, Any], outputs: Outputs, truth: list[Boxes] = TRUTH) -> float:
    loss = DETECTION[task["decoder"]][1](outputs, task)
    return float(loss(as_tensors(outputs), as_tensors(padded_boxes(truth))))


def moved(pixels: float) -> list[Boxes]:
    return [Boxes(sample.boxes + np.float32(pixels), sample.classes) for sample in TRUTH]


def ident(task: dict[str, Any]) -> str:
    shown = ("decoder", "box_format", "box_scale", "objectness", "score_logits", "turned", "size_unit", "stride")
    return " ".join(f"{key}={task[key]}" for key in shown if key in task)


@pytest.mark.parametrize("task", FORMATS, ids=ident)
def test_what_the_decoder_reads_as_the_truth_costs_nothing_and_a_wrong_place_does(task: dict[str, Any]) -> None:
    outputs = outputs_of(task)
    for image, sample in enumerate(TRUTH):  # the test's own outputs mean the truth to edgekit's decoder
        found = detection.decode({name: value[image : image + 1] for name, value in outputs.items()}, task)
        order = np.argsort(found["classes"])
        np.testing.assert_allclose(found["boxes"][order], sample.boxes[np.argsort(sample.classes)], atol=1e-3)
        assert sorted(found["classes"]) == sorted(sample.classes)
    right, off, far = (loss_of(task, outputs, moved(pixels)) for pixels in (0.0, 3.0, 6.0))
    assert right < 0.1
    assert right + 0.1 < min(off, far)
    assert off < far or task["decoder"] == "heatmap"  # a peak beside its place is a miss, however far


@pytest.mark.parametrize("decoder", DETECTION)
def test_a_wrong_class_a_miss_and_a_false_alarm_cost(decoder: str) -> None:
    task = table(decoder=decoder, stride=4)
    right = outputs_of(task)
    scores = right["detections"][..., 4:] if decoder == "rows" else right["scores"]
    sure = scores > 0.5
    wrong = {name: value.copy() for name, value in right.items()}
    target = wrong["detections"][..., 4:] if decoder == "rows" else wrong["scores"]
    perfect = loss_of(task, right)
    target[:] = np.where(sure, 0.2, scores)
    missed = loss_of(task, wrong)
    target[:] = np.roll(scores, 1, axis=-1)
    mistaken = loss_of(task, wrong)
    target[:] = scores
    target[:, ..., 0].flat[:3] = 0.9
    alarmed = loss_of(task, wrong)
    assert min(missed, mistaken, alarmed) > perfect + 0.3


@pytest.mark.parametrize("decoder", DETECTION)
def test_padding_and_the_order_of_the_truth_do_not_matter(decoder: str) -> None:
    task = table(decoder=decoder, stride=4)
    outputs = {name: np.abs(value + np.float32(0.01)) for name, value in outputs_of(task).items()}
    turned = [Boxes(sample.boxes[::-1], sample.classes[::-1]) for sample in TRUTH]
    loss = DETECTION[decoder][1](outputs, task)
    padded = {name: np.pad(value, [(0, 0), (0, 5)] + [(0, 0)] * (value.ndim - 2))
              for name, value in padded_boxes(TRUTH).items()}  # fmt: skip
    expected = loss_of(task, outputs)
    assert loss_of(task, outputs, turned) == pytest.approx(expected, rel=1e-5)
    assert float(loss(as_tensors(outputs), as_tensors(padded))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("decoder", DETECTION)
def test_images_without_a_box_only_lower_the_scores(decoder: str) -> None:
    task = table(decoder=decoder, stride=4)
    outputs = as_tensors(outputs_of(task))
    loss = DETECTION[decoder][1](outputs_of(task), task)
    empty = [Boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))] * len(TRUTH)
    with tf.GradientTape() as tape:
        tape.watch(outputs)
        value = loss(outputs, as_tensors(padded_boxes(empty)))
    gradients = tape.gradient(value, outputs)
    assert np.isfinite(float(value))
    scores = gradients["detections"][..., 4:] if decoder == "rows" else gradients["scores"]
    boxes = gradients["detections"][..., :4] if decoder == "rows" else gradients["boxes"]
    assert float(tf.reduce_min(scores)) > 0  # descending lowers every one
    assert float(tf.reduce_max(tf.abs(boxes))) == 0


def test_a_box_that_no_row_meets_draws_the_nearest_and_each_row_serves_one_box() -> None:
    corners = np.array([[[0, 0, 4, 4], [40, 30, 44, 34], [8, 8, 20, 20]]], np.float32)
    scores = np.full((1, 3, 2), 0.5, np.float32)
    truth = [Boxes(np.array([[8, 8, 20, 20], [50, 40, 60, 46], [8, 8, 20, 18]], np.float32), np.array([0, 1, 0]))]
    wanted = assign(tf.constant(corners), tf.constant(scores), as_tensors(padded_boxes(truth)))
    np.testing.assert_allclose(wanted.weight[0], [0, 1, 1], atol=1e-6)
    np.testing.assert_allclose(wanted.boxes[0, 1:], truth[0].boxes[[1, 0]])
    np.testing.assert_allclose(wanted.scores[0], [[0, 0], [0, 0], [1, 0]], atol=1e-6)


def test_a_box_has_a_few_rows_and_its_best_one_shall_score_the_iou() -> None:
    generator = np.random.default_rng(0)
    truth = padded_boxes(TRUTH)
    around = np.repeat(truth["boxes"], 20, axis=1) + generator.normal(0, 2, (2, 40, 4)).astype(np.float32)
    scores = generator.uniform(0.2, 0.9, (2, 40, 3)).astype(np.float32)
    wanted = assign(tf.constant(around), tf.constant(scores), as_tensors(truth))
    rows = np.count_nonzero(wanted.weight, axis=1)
    assert rows[0] == 2 * ROWS_PER_BOX
    assert rows[1] == ROWS_PER_BOX
    assert 0.6 < float(tf.reduce_max(wanted.scores)) < 1


@pytest.mark.parametrize(("width", "height"), [(1.0, 1.0), (8.0, 3.0), (20.0, 20.0)])
def test_corners_off_by_the_radius_still_overlap_by_seven_tenths(width: float, height: float) -> None:
    r = float(radius(tf.constant(width), tf.constant(height)))
    area = width * height
    alike = (width - r) * (height - r)
    inwards = (width - 2 * r) * (height - 2 * r) / area
    outwards = area / ((width + 2 * r) * (height + 2 * r))
    assert min(alike / (2 * area - alike), inwards, outwards) == pytest.approx(0.7, abs=1e-4)


DETECTORS: dict[str, tuple[Callable[[], keras.Model], dict[str, Any]]] = {
    "boxes_scores": (truth_of_squares.dense_detector, {}),
    "heatmap": (truth_of_squares.heat_detector, {"offsets_output": "offsets", "size_unit": "places"}),
}


@pytest.mark.parametrize("decoder", DETECTORS)
def test_an_untrained_detector_learns_to_find_squares(decoder: str) -> None:
    build, keys = DETECTORS[decoder]
    model, task = build(), table(decoder=decoder, stride=4, classes=("red", "green"), **keys)
    images, truth = truth_of_squares.scenes(192)
    labels = padded_boxes(truth)
    loss = DETECTION[decoder][1](predict(model, {"image": images[:2]}), task)
    optimizer = keras.optimizers.AdamW(4e-3)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(batch: tf.Tensor, wanted: dict[str, tf.Tensor]) -> tf.Tensor:
        with tf.GradientTape() as tape:
            value = loss(model(batch, training=True), wanted)
        optimizer.apply(tape.gradient(value, model.trainable_variables), model.trainable_variables)
        return value

    generator = np.random.default_rng(0)
    for _ in range(160):
        rows = generator.choice(len(images), 16, replace=False)
        step(tf.constant(images[rows]), as_tensors({name: value[rows] for name, value in labels.items()}))
    unseen, known = truth_of_squares.scenes(60, seed=1)
    outputs = predict(model, {"image": unseen})
    task["score_threshold"] = 0.01
    singles = ({name: value[row : row + 1] for name, value in outputs.items()} for row in range(len(unseen)))
    score = detection.score([detection.decode(single, task) for single in singles], known, ("red", "green"))
    print(decoder, score)
    assert score.secondary["mAP@.5"] > 0.9
