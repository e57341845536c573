"""What training may change in a network, and what it leaves behind."""

from __future__ import annotations

import finetune_networks as networks
import keras
import numpy as np
import pytest

from edgekit.errors import StageError
from edgekit.finetune.training import Settings, train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras with NumPy 2
]


def silent(done: float, text: str) -> None:
    """Take progress and do nothing."""


def pair() -> tuple[keras.Model, keras.Model]:
    """Return two copies of a network whose batch norms are not the identity."""
    keras.utils.set_random_seed(0)
    teacher = networks.every_construct()
    norm = next(layer for layer in teacher.layers if isinstance(layer, keras.layers.BatchNormalization))
    norm.moving_mean.assign(np.linspace(-0.2, 0.2, 6))
    norm.moving_variance.assign(np.linspace(0.02, 0.5, 6))
    student = networks.every_construct()
    student.set_weights(teacher.get_weights())
    return student, teacher


def arrays(count: int, seed: int) -> dict[str, np.ndarray]:
    return {"image": networks.images(count, (8, 8, 3), seed)}


def weights(model: keras.Model) -> dict[str, np.ndarray]:
    return {weight.path: np.array(weight.value.numpy()) for weight in model.weights}


def test_the_student_comes_closer_and_batch_norm_keeps_its_statistics() -> None:
    student, teacher = pair()
    for layer in student.layers[:3]:
        layer.trainable = False
    before, taught = weights(student), weights(teacher)
    seen: list[float] = []
    result = train(
        student, teacher, arrays(48, 1), arrays(16, 2), Settings(6, batch=8), lambda done, text: seen.append(done)
    )
    assert result.after < result.before
    assert result.best_epoch == 1 + result.epochs.index(min(result.epochs))
    assert seen == sorted(seen)
    assert seen[-1] <= 1.0
    after = weights(student)
    changed = {path.split("/")[-1] for path in after if not np.array_equal(before[path], after[path])}
    assert {"kernel", "bias", "gamma", "beta"} <= changed
    assert not changed & {"moving_mean", "moving_variance"}
    for path, value in weights(teacher).items():
        np.testing.assert_array_equal(value, taught[path])
    assert not student.compiled


def test_a_rate_that_diverges_leaves_the_network_as_it_came() -> None:
    student, teacher = pair()
    before = weights(student)
    result = train(student, teacher, arrays(24, 1), arrays(8, 2), Settings(3, learning_rate=1e9), silent)
    assert result.best_epoch == 0
    assert result.after == result.before
    for path, value in weights(student).items():
        np.testing.assert_array_equal(value, before[path])


def test_a_network_that_is_not_finite_is_an_error() -> None:
    student, teacher = pair()
    broken = arrays(24, 1)
    broken["image"][0] = np.inf
    with pytest.raises(StageError, match="NaN or infinity inside"):
        train(student, teacher, broken, arrays(8, 2), Settings(1), silent)
