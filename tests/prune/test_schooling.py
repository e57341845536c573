"""What pruning learns from, and what is kept apart from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edgekit.prune.candidate import School
from edgekit.prune.recovery.batches import Lesson
from edgekit.prune.recovery.training import RecoverySettings
from edgekit.prune.schooling import Schooling, _fitting

pytestmark = pytest.mark.slow  # the package needs TensorFlow

COUNT = 240


def ready(others: dict[str, Any] | None) -> Schooling:
    image = keras.Input((2, 2, 3), name="image")
    model = keras.Model(image, keras.layers.Flatten(name="flat")(image))
    inputs = {"image": np.arange(COUNT, dtype=np.float32)[:, None, None, None] * np.ones((2, 2, 3), np.float32)}
    school = School(model, Lesson(inputs, others=others), None, None, None, RecoverySettings())
    return Schooling(model, inputs, school, None, (), "distillation")


def test_what_is_held_apart_is_not_learned_from_by_another_way() -> None:
    images = ready(None).inputs["image"]
    again = ready({"image": np.concatenate([images, images + 0.5])}).held_apart().school
    assert again.held is not None
    assert again.lesson.others is not None
    held, others = again.held.inputs["image"], again.lesson.others["image"]
    assert not np.isin(others, held).any()
    assert len(others) == 2 * COUNT - len(held)
    assert len(held) + len(again.lesson.inputs["image"]) == COUNT


def test_others_that_are_all_held_apart_are_none() -> None:
    held = ready(None).held_apart().school.held
    assert held is not None
    assert ready(held.inputs).held_apart().school.lesson.others is None


def test_where_samples_do_not_fit_some_are_left_out_evenly_and_it_is_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "many.npz", x=np.arange(10, dtype=np.float32)[:, None])
    preprocess = {"size": None, "color": "rgb", "mean": [0.0], "scale": [1.0]}
    many = {"kind": "npz", "path": tmp_path / "many.npz", "labels": None, "classes": [], "preprocess": preprocess}
    whole, nothing = _fitting(many, False, 10, "training")
    part, notes = _fitting(many, False, 4, "unlabelled")
    assert (len(whole), nothing) == (10, ())
    assert [array.ravel().tolist() for array in part.arrays.values()] == [[0, 3, 6, 9]]
    assert notes == ("Of 10 unlabelled samples 4 were used, what 4 GB hold.",)
