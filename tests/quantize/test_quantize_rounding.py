"""Weights rounded for what they make of real inputs, on inputs that hang together as a network's do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from edgekit.quantize.rounding import STEPS, least_error, nearest, scales_of

Array = npt.NDArray[Any]


@pytest.fixture
def weights() -> Array:
    return np.random.default_rng(1).normal(0, 1, (6, 100))


@pytest.fixture
def inputs() -> Array:
    """500 rows of 100 columns that move together in 12 ways, and a little alone."""
    random = np.random.default_rng(2)
    return random.normal(0, 1, (500, 12)) @ random.normal(0, 1, (12, 100)) + random.normal(0, 0.1, (500, 100))


def error(weights: Array, rounded: Array, inputs: Array) -> float:
    return float((((weights - rounded) @ inputs.T) ** 2).mean())


def test_outputs_change_less_than_with_the_nearest_codes(weights: Array, inputs: Array) -> None:
    found = least_error(weights, inputs.T @ inputs / len(inputs))
    assert error(weights, found, inputs) < 0.3 * error(weights, nearest(weights), inputs)


def test_it_is_as_good_as_plain_feedback_column_by_column(weights: Array, inputs: Array) -> None:
    """Blocks are only a way to compute it: the same recursion, one column at a time, gives the same codes."""
    second = inputs.T @ inputs / len(inputs)
    order = np.argsort(np.diag(second), kind="stable")
    damped = second[np.ix_(order, order)] + 0.01 * np.diag(second).mean() * np.eye(100)
    factor = np.linalg.cholesky(damped).T
    scales, wanted = scales_of(weights)[:, 0], weights[:, order]
    found = np.zeros_like(wanted)
    for column in reversed(range(100)):
        behind = (wanted - found)[:, column + 1 :] @ factor[column, column + 1 :] / factor[column, column]
        codes = np.clip(np.rint((wanted[:, column] + behind) / scales), -STEPS, STEPS)
        largest = np.abs(wanted).argmax(axis=1) == column
        found[:, column] = np.where(largest, np.rint(wanted[:, column] / scales), codes) * scales
    assert np.abs(least_error(weights, second)[:, order] - found).max() < 1e-9


def test_every_channel_keeps_its_grid(weights: Array, inputs: Array) -> None:
    found = least_error(weights, inputs.T @ inputs)
    assert scales_of(found) == pytest.approx(scales_of(weights), rel=1e-12)
    codes = found / scales_of(weights)
    assert np.abs(codes - np.rint(codes)).max() < 1e-9
    assert np.abs(codes).max() == pytest.approx(STEPS)


@pytest.mark.parametrize("second", [np.zeros((3, 3)), np.diag([1.0, 0.0, 0.0])])
def test_dead_inputs_and_dead_channels_stay_as_they_are(second: Array) -> None:
    weights = np.array([[0.0, 0.0, 0.0], [0.3, -1.0, 0.5]])
    assert np.array_equal(least_error(weights, second), nearest(weights))
