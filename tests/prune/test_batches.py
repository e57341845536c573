from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edgekit.prune.recovery.batches import Batches, Lesson, ahead

pytestmark = pytest.mark.slow  # the package needs TensorFlow

COUNT, SIZE = 80, 4
Arrays = dict[str, np.ndarray[Any, Any]]


def lesson(with_boxes: bool = True) -> Lesson:
    """Make images whose mean names them, each with one box around a bright middle."""
    images = np.full((COUNT, 16, 16, 3), 0.1, np.float32) + np.arange(COUNT, dtype=np.float32)[:, None, None, None]
    boxes = np.tile(np.array([4, 4, 12, 12], np.float32), (COUNT, 1, 1))
    truth = {"boxes": boxes, "classes": np.arange(COUNT)[:, None], "present": np.ones((COUNT, 1), np.float32)}
    return Lesson({"image": images}, truth if with_boxes else None, lambda batch: {"area": _areas(batch["boxes"])})


def _areas(boxes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray((boxes[..., 2:] - boxes[..., :2]).prod(axis=-1))


def asked(inputs: Arrays) -> Arrays:
    return {"out": inputs["image"].mean(axis=(1, 2, 3))}


def epoch(made: Batches, seed: int = 0) -> list[dict[str, Arrays]]:
    return list(made.epoch(np.random.default_rng(seed)))


def test_every_sample_comes_once_with_its_own_labels_and_answers() -> None:
    taught = {"out": np.arange(COUNT)}
    batches = epoch(Batches(lesson(), taught, SIZE, asked))
    assert sorted(np.concatenate([batch["taught"]["out"] for batch in batches])) == list(range(COUNT))
    for batch in batches:
        np.testing.assert_allclose(batch["inputs"]["image"].mean(axis=(1, 2, 3)), batch["taught"]["out"] + 0.1, 1e-4)
        np.testing.assert_array_equal(batch["labels"]["area"], np.full((SIZE, 1), 64))


def test_some_batches_are_mixed_without_labels_and_some_move_with_them() -> None:
    made = Batches(lesson(), asked(lesson().inputs), SIZE, asked, mixed_share=0.5, moved_share=0.5)
    batches = [batch for seed in range(10) for batch in epoch(made, seed)]
    mixed = [batch for batch in batches if not batch["labels"]]
    moved = [batch for batch in batches if batch["labels"] and (batch["labels"]["area"] != 64).any()]
    assert len(mixed) / len(batches) == pytest.approx(0.5, abs=0.1)
    assert len(moved) / len(batches) == pytest.approx(0.25, abs=0.1)
    for batch in batches:  # the teacher answered for what the student sees
        np.testing.assert_allclose(batch["taught"]["out"], asked(batch["inputs"])["out"], rtol=1e-5)


def test_mixed_images_are_made_of_the_others_too() -> None:
    labelled = lesson()
    others = {"image": np.full((3 * COUNT, 16, 16, 3), 1000.0, np.float32)}
    whole = Lesson(labelled.inputs, labelled.truth, labelled.encode, others)
    batches = [batch for seed in range(10) for batch in epoch(Batches(whole, None, SIZE, asked, mixed_share=0.5), seed)]
    brightest = np.concatenate(
        [batch["inputs"]["image"].max(axis=(1, 2, 3)) for batch in batches if not batch["labels"]]
    )
    assert np.mean(brightest > 500) > 0.75, "three quarters of the images, and those they are pasted on"
    assert all(batch["inputs"]["image"].max() < 500 for batch in batches if batch["labels"])
    assert whole.part(np.arange(4)).others is None


def test_without_labels_nothing_moves_but_mixing() -> None:
    made = Batches(lesson(with_boxes=False), asked(lesson().inputs), SIZE, asked, mixed_share=0.5, moved_share=0.5)
    assert all(not batch["labels"] for batch in epoch(made))


def test_a_seed_gives_the_same_epoch_again() -> None:
    made = Batches(lesson(), asked(lesson().inputs), SIZE, asked, mixed_share=0.5, moved_share=0.5, symmetric=True)
    for first, second in zip(epoch(made, 3), epoch(made, 3), strict=True):
        np.testing.assert_array_equal(first["inputs"]["image"], second["inputs"]["image"])
        assert first["labels"].keys() == second["labels"].keys()


def test_the_next_batch_is_made_while_one_is_used() -> None:
    begun = {number: threading.Event() for number in range(4)}

    def numbers() -> Iterator[int]:
        for number, event in begun.items():
            assert threading.current_thread() is not threading.main_thread()
            event.set()
            yield number

    used = []
    for number in ahead(numbers()):
        used.append(number)
        assert number == 3 or begun[number + 1].wait(10), "nobody made the next one"
    assert used == list(begun)


def test_what_goes_wrong_while_a_batch_is_made_is_raised_where_it_is_used() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no boxes")

    with pytest.raises(ValueError, match="no boxes"):
        list(ahead(broken()))
