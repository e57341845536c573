"""Classification: top-1, top-5, per class, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scenes import floats

from edgekit.errors import RecipeError, StageError
from edgekit.tasks import classification, load

Prediction = dict[str, npt.NDArray[Any]]


def predictions(rows: list[list[float]]) -> list[Prediction]:
    return [{"scores": np.array(row, np.float32)} for row in rows]


def test_top_1_and_each_class() -> None:
    score = classification.score(predictions([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1]), ["cat", "dog"])
    assert score.value == pytest.approx(2 / 3)
    assert score.per_class == {"cat": 1.0, "dog": 0.5}
    assert score.secondary == {}


def test_top_5_counts_the_first_five_of_six() -> None:
    falling = [[6.0, 5, 4, 3, 2, 1]] * 3
    score = classification.score(predictions(falling), np.array([0, 4, 5]), [])
    assert score.secondary == {"top-5": pytest.approx(2 / 3)}
    assert score.per_class == {"0": 1.0, "4": 0.0, "5": 0.0}


def test_of_equal_scores_the_first_wins_as_argmax_does() -> None:
    score = classification.score(predictions([[1, 1], [1, 1]]), np.array([0, 1]), ["a", "b"])
    assert score.per_class == {"a": 1.0, "b": 0.0}


def test_nan_is_an_error_and_never_a_score() -> None:
    with pytest.raises(StageError, match="outputs NaN: 1 of 2"):
        classification.score(predictions([[1, 0], [float("nan"), 0]]), np.array([0, 0]), ["a", "b"])


def test_the_output_with_most_values_holds_the_scores() -> None:
    outputs = {"aux": np.zeros((1, 2), np.float32), "logits": floats([[1, 2, 3]])}
    np.testing.assert_array_equal(classification.decode(outputs, {})["scores"], [1, 2, 3])


def test_another_number_of_classes_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"'logits' has 3 value\(s\).*2 class names"):
        classification.decode({"logits": np.zeros((1, 3))}, {"classes": ["a", "b"]})
    with pytest.raises(RecipeError, match=r"has 1 value\(s\) per sample; one per class"):
        classification.decode({"sigmoid": np.zeros((1, 1))}, {})


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (None, "needs labelled"),
        ([1, 2], "found boxes"),
        (np.zeros((3, 2), np.int64), "integer class number"),
        (np.array([0.5, 1.0]), "integer class number"),
        (np.array([0, 2]), "from 0 to 2"),
        (np.array([-1, 0]), "from -1 to 0"),
    ],
)
def test_labels_that_are_none_are_refused(truth: object, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        classification.check_truth(truth, ["a", "b"])


def test_the_drop_is_paired() -> None:
    truth = np.zeros(200, np.int64)
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    before = predictions([right] * 150 + [wrong] * 50)
    after = predictions([right] * 148 + [wrong] * 52)
    drop = classification.drop(before, after, truth, ["a", "b"], 400, 0)
    assert drop.points == pytest.approx(1.0)
    # Two discordant samples of 200: paired, the interval is about 0 to 2.5 points. Unpaired it would be 17 wide.
    assert 0.0 <= drop.low_points < 1.0 < drop.high_points <= 3.0


def test_a_task_that_does_not_exist_names_those_that_do() -> None:
    assert load("classification").PRIMARY == "top-1"
    with pytest.raises(RecipeError, match="'segmentation'") as error:
        load("segmentation")
    assert "generic" in error.value.hint
