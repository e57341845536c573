"""Where two models answer otherwise: on invented answers, whose differences are known."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgekit.dataset import Dataset, Preprocess, open_dataset
from edgekit.errors import StageError
from edgekit.profile import disagreement
from edgekit.profile.accuracy import sample_set
from edgekit.profile.thumbnails import thumbnail
from edgekit.tasks.predictions import save_predictions

PLAIN = Preprocess(size=None, color="rgb", mean=(0.0,), scale=(1.0,))
CLASSES = ("cat", "dog")
SIDE = 300


def found(*boxes: tuple[float, int, float]) -> dict[str, Any]:
    """Return squares of 40 pixels: (left edge, class, score), best first."""
    return {
        "boxes": np.array([[x, 10.0, x + 40.0, 50.0] for x, _, _ in boxes], np.float32).reshape(-1, 4),
        "classes": np.array([kind for _, kind, _ in boxes], np.int64),
        "scores": np.array([score for _, _, score in boxes], np.float32),
    }


BEFORE = [
    found((10, 0, 0.9)),  # found by both
    found((10, 0, 0.9), (100, 1, 0.8)),  # the dog is lost
    found((10, 0, 0.46)),  # both see it, on either side of the limit
    found((10, 0, 0.9)),  # another class
    found(),  # a new one
]
AFTER = [
    found((12, 0, 0.88)),
    found((10, 0, 0.9), (100, 1, 0.1)),
    found((10, 0, 0.44)),
    found((10, 1, 0.9)),
    found((60, 1, 0.7)),
]


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Write five images whose labels are what ``BEFORE`` finds, and in the last what ``AFTER`` finds."""
    (tmp_path / "images").mkdir()
    images, annotations = [], []
    for index, truth in enumerate([*BEFORE[:4], AFTER[4]]):
        name = f"{index}.png"
        Image.new("RGB", (SIDE, 60), (10 * index, 200, 30)).save(tmp_path / "images" / name)
        images.append({"id": index, "file_name": name})
        for box, kind in zip(truth["boxes"].tolist(), truth["classes"].tolist(), strict=True):
            x, y, right, bottom = box
            entry = {"image_id": index, "category_id": kind, "bbox": [x, y, right - x, bottom - y]}
            annotations.append(entry)
    categories = [{"id": index, "name": name} for index, name in enumerate(CLASSES)]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "labels.json").write_text(json.dumps(document))
    return tmp_path


def samples_of(coco: Path) -> Dataset:
    return open_dataset("coco", coco / "images", coco / "labels.json", PLAIN, labelled=True)


def picture(uri: str) -> Image.Image:
    return Image.open(BytesIO(base64.b64decode(uri.partition(",")[2])))


def test_boxes_that_only_one_finds_are_counted_and_shown_first(coco: Path) -> None:
    result = disagreement.boxes(samples_of(coco), BEFORE, AFTER)
    assert result.samples == 5
    assert result.differing == 3  # not the moved box, and not the one at the limit
    assert (result.lost, result.won) == (2, 1)
    assert [item.sample for item in result.shown] == ["3.png", "1.png", "4.png", "0.png"]  # the largest gap first
    other_class, lost, won, alike = result.shown
    assert [(box.label, box.shared) for box in other_class.before] == [("cat", False)]
    assert [(box.label, box.shared) for box in other_class.after] == [("dog", False)]
    assert [(box.label, box.score, box.shared) for box in lost.before] == [("cat", 0.9, True), ("dog", 0.8, False)]
    assert [box.label for box in lost.after] == ["cat"]
    assert won.before == []
    assert (won.after[0].x1, won.after[0].y1, won.after[0].x2, won.after[0].y2) == (60, 10, 100, 50)
    assert alike.before[0].shared
    assert alike.after[0].shared
    assert picture(lost.picture).size == (256, 51)
    assert (lost.width, lost.height) == (SIDE, 60)


def test_only_what_is_shown_is_read(coco: Path) -> None:
    samples = samples_of(coco)
    (coco / "images/2.png").unlink()  # the fifth by its gap
    assert len(disagreement.boxes(samples, BEFORE, AFTER).shown) == 4


def test_equal_answers_are_no_disagreement(coco: Path) -> None:
    result = disagreement.boxes(samples_of(coco), BEFORE, BEFORE)
    assert (result.differing, result.lost, result.won, result.shown) == (0, 0, 0, [])


def test_the_step_compares_what_scoring_wrote(coco: Path) -> None:
    samples = samples_of(coco)
    save_predictions(coco / "before.npz", BEFORE, sample_set(samples))
    save_predictions(coco / "after.npz", AFTER, sample_set(samples))
    save_predictions(coco / "others.npz", AFTER, "another set")
    dataset = {"kind": "coco", "path": coco / "images", "labels": coco / "labels.json", "classes": [],
               "preprocess": {"size": None, "color": "rgb", "mean": [0.0], "scale": [1.0]}}  # fmt: skip
    common: dict[str, Any] = {"out": coco, "progress": lambda *_: None, "dataset": dataset}
    task = {"kind": "detection"}
    result = disagreement.run(before=coco / "before.npz", after=coco / "after.npz", task=task, **common)
    assert result == disagreement.boxes(samples, BEFORE, AFTER).model_dump()
    with pytest.raises(StageError, match="another set"):
        disagreement.run(before=coco / "before.npz", after=coco / "others.npz", task=task, **common)


def test_changed_answers_of_a_classifier() -> None:
    images = np.zeros((4, 28, 28), np.uint8)
    samples = Dataset(Path("test.npz"), PLAIN, arrays={"x": images}, truth=np.array([0, 0, 1, 1]), classes=CLASSES)
    scores = {"before": [[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.3, 0.7]],
              "after": [[0.8, 0.2], [0.1, 0.9], [0.45, 0.55], [0.2, 0.8]]}  # fmt: skip
    before, after = ([{"scores": np.array(row, np.float32)} for row in rows] for rows in scores.values())
    result = disagreement.answers(samples, before, after)
    assert (result.samples, result.differing, result.lost, result.won) == (4, 2, 1, 1)
    assert [item.sample for item in result.shown] == ["test.npz[1]", "test.npz[2]"]
    first = result.shown[0]
    assert (first.truth, first.answer_before, first.answer_after) == ("cat", "cat (60 %)", "dog (90 %)")
    assert picture(first.picture).size == (28, 28)


@pytest.mark.parametrize(
    ("array", "colour"),
    [
        (np.full((1, 20, 30, 3), (1, 2, 3), np.uint8), (1, 2, 3)),
        (np.full((1, 3, 20, 30), 7, np.uint8), (7, 7, 7)),  # channels first
        (np.full((1, 20, 30, 1), 0.5, np.float32), 128),
        (np.full((1, 20, 30), 200.0, np.float32), 200),
    ],
    ids=["rgb", "channels_first", "unit_range", "byte_range"],
)
def test_arrays_that_look_like_images_become_pictures(array: Any, colour: Any) -> None:
    made = thumbnail(Dataset(Path("test.npz"), PLAIN, arrays={"x": array}), 0)
    assert (made.width, made.height) == (30, 20)
    assert picture(made.uri).getpixel((5, 5)) == colour


@pytest.mark.parametrize(
    "arrays",
    [
        {"x": np.zeros((1, 128), np.int32)},
        {"x": np.zeros((1, 20, 30, 5), np.uint8)},
        {"ids": np.zeros((1, 9, 9), np.uint8), "mask": np.zeros((1, 9, 9), np.uint8)},
    ],
    ids=["text", "five_channels", "two_inputs"],
)
def test_other_samples_have_no_picture(arrays: dict[str, Any]) -> None:
    assert thumbnail(Dataset(Path("test.npz"), PLAIN, arrays=arrays), 0).uri == ""


def test_blue_first_images_are_shown_as_stored(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), (250, 120, 5)).save(tmp_path / "one.png")
    blue_first = Preprocess(size=None, color="bgr", mean=(0.0,), scale=(1.0,))
    made = thumbnail(Dataset(tmp_path, blue_first, files=[tmp_path / "one.png"]), 0)
    assert picture(made.uri).getpixel((5, 5)) == (250, 120, 5)
