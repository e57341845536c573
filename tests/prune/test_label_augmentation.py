from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.prune.recovery.label_augmentation import VISIBLE, can_move, move

HEIGHT, WIDTH, COUNT = 48, 64, 40
EDGE = 1.5  # pixels beside an edge that bilinear sampling blends
Array = np.ndarray[Any, Any]


def drawn(seed: int = 0) -> tuple[dict[str, Array], dict[str, Array]]:
    """Draw one bright box per image, brighter towards its left side; the second row of the truth is padding."""
    generator = np.random.default_rng(seed)
    images = np.full((COUNT, HEIGHT, WIDTH, 3), 0.1, np.float32)
    boxes = np.zeros((COUNT, 2, 4), np.float32)
    for image, box in zip(images, boxes, strict=True):
        wide, high = generator.integers(8, 20, 2)
        x, y = generator.integers(0, WIDTH - wide + 1), generator.integers(0, HEIGHT - high + 1)
        image[y : y + high, x : x + wide] = 0.9
        image[y : y + high, x : x + wide // 2, 0] = 1.0
        box[0] = x, y, x + wide, y + high
    present = np.zeros((COUNT, 2), np.float32)
    present[:, 0] = 1
    return {"image": images}, {"boxes": boxes, "classes": np.zeros((COUNT, 2), np.int32), "present": present}


def inside(box: Array, margin: float) -> Array:
    """Return the pixels (H, W) whose centres lie in the box grown by ``margin``."""
    x1, y1, x2, y2 = box + np.array([-margin, -margin, margin, margin])
    ys, xs = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return (xs > x1) & (xs < x2) & (ys > y1) & (ys < y2)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_drawn_box_stays_on_its_object(symmetric: bool, seed: int) -> None:
    inputs, truth = drawn(seed)
    moved, known = move(inputs, truth, np.random.default_rng(seed), symmetric=symmetric)
    assert moved["image"].shape == inputs["image"].shape
    assert moved["image"].dtype == np.float32
    checked = 0
    for image, box, present in zip(moved["image"][..., 1], known["boxes"][:, 0], known["present"][:, 0], strict=True):
        if not present:
            continue
        bright = image > (image.min() + image.max()) / 2
        assert bright[inside(box, -EDGE)].all()
        assert not bright[~inside(box, EDGE)].any()
        assert box.min() >= 0
        assert (box[2:] <= (WIDTH, HEIGHT)).all()
        checked += 1
    assert checked > COUNT / 2
    assert not known["present"][:, 1].any()
    assert not known["boxes"][:, 1].any()


def test_boxes_change_size_and_place() -> None:
    inputs, truth = drawn()
    _, known = move(inputs, truth, np.random.default_rng(0))
    kept = known["present"][:, 0] > 0
    before, after = truth["boxes"][kept, 0], known["boxes"][kept, 0]
    assert np.abs(after - before).mean() > 3
    sides = (after[:, 2:] - after[:, :2]) / (before[:, 2:] - before[:, :2])
    assert sides.min() < 0.85
    assert sides.max() > 1.2


def test_what_left_the_picture_is_no_longer_asked_for() -> None:
    inputs, truth = drawn()
    truth["boxes"][:, 0] = 0, 0, 5, 5
    _, known = move(inputs, truth, np.random.default_rng(0))
    present, boxes = known["present"][:, 0] > 0, known["boxes"][:, 0]
    assert 0 < present.sum() < COUNT
    assert not boxes[~present].any()
    area = (boxes[present, 2:] - boxes[present, :2]).prod(axis=1)
    assert area.min() >= VISIBLE * 25 * 0.75**2 - 1e-3


@pytest.mark.parametrize("symmetric", [False, True])
def test_only_what_is_symmetric_is_mirrored(symmetric: bool) -> None:
    inputs, truth = drawn()
    moved, known = move(inputs, truth, np.random.default_rng(0), symmetric=symmetric)
    turned = []
    for image, box, present in zip(moved["image"], known["boxes"][:, 0], known["present"][:, 0], strict=True):
        middle = (box[0] + box[2]) / 2
        whole = present and box[0] > 0 and box[2] < WIDTH
        if whole:
            extra = np.where(inside(box, -EDGE), image[..., 0] - image[..., 1], 0).sum(axis=0)
            left = np.arange(WIDTH) + 0.5 < middle
            turned.append(extra[~left].sum() > extra[left].sum())
    assert any(turned) == symmetric
    assert not all(turned)


def test_a_class_keeps_its_size_and_its_number() -> None:
    inputs, truth = drawn()
    numbers = {"class": np.arange(COUNT)}
    moved, known = move(inputs, numbers, np.random.default_rng(0))
    assert known is numbers
    ys, xs = np.nonzero(moved["image"][0, ..., 1] > 0.6)
    x1, y1, x2, y2 = truth["boxes"][0, 0]
    if xs.min() > 0 and xs.max() < WIDTH - 1 and ys.min() > 0 and ys.max() < HEIGHT - 1:
        assert abs((xs.max() - xs.min() + 1) - (x2 - x1)) <= 1
        assert abs((ys.max() - ys.min() + 1) - (y2 - y1)) <= 1
    assert not np.array_equal(moved["image"], inputs["image"])


def test_a_seed_gives_the_same_batch_again_and_the_given_one_stays() -> None:
    inputs, truth = drawn()
    before = inputs["image"].copy(), truth["boxes"].copy()
    first, second = (move(inputs, truth, np.random.default_rng(7), symmetric=True) for _ in range(2))
    np.testing.assert_array_equal(first[0]["image"], second[0]["image"])
    np.testing.assert_array_equal(first[1]["boxes"], second[1]["boxes"])
    np.testing.assert_array_equal(inputs["image"], before[0])
    np.testing.assert_array_equal(truth["boxes"], before[1])


def test_other_inputs_and_other_truth_pass_unchanged() -> None:
    inputs, truth = drawn()
    two = {**inputs, "second": inputs["image"]}
    rows = {"x": np.zeros((COUNT, 8), np.float32)}
    for given, known in ((two, truth), (rows, truth), (inputs, {"y": np.zeros(COUNT)})):
        assert not can_move(given, known)
        moved, same = move(given, known, np.random.default_rng(0))
        assert moved is given
        assert same is known
    assert can_move(inputs, truth)
    assert can_move(inputs, {"class": np.zeros(COUNT, int)})


def test_images_without_boxes_move_too() -> None:
    inputs, _ = drawn()
    truth = {"boxes": np.zeros((COUNT, 1, 4), np.float32), "present": np.zeros((COUNT, 1), np.float32)}
    _, known = move(inputs, truth, np.random.default_rng(0))
    assert not known["present"].any()
