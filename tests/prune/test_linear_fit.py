from __future__ import annotations

import numpy as np
import pytest

from edgekit.prune.repair.linear_fit import Moments, fit

RANDOM = np.random.default_rng(0)


def moments_of(x: np.ndarray, y: np.ndarray) -> Moments:
    moments = Moments.empty(x.shape[1], y.shape[1])
    for half in (slice(None, None, 2), slice(1, None, 2)):
        moments.add(x[half].T @ x[half], x[half].T @ y[half], (y[half] ** 2).sum(0), y[half].sum(0), len(x[half]))
    return moments


def problem(rows: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x = np.concatenate([RANDOM.normal(size=(rows, 5)) * [1, 10, 0.1, 1, 1], np.ones((rows, 1))], axis=1)
    weights = RANDOM.normal(size=(6, 3))
    return x, x @ weights, weights


def test_without_noise_the_weights_are_found() -> None:
    x, y, weights = problem()
    moments = moments_of(x, y)
    found = fit(moments, np.zeros((6, 3)), 0.0, constant=True)
    np.testing.assert_allclose(found, weights, atol=1e-6)
    np.testing.assert_allclose(moments.error(found), 0.0, atol=1e-9)


def test_error_is_that_of_the_rows() -> None:
    x, y, weights = problem()
    guess = weights + 0.1
    expected = ((x @ guess - y) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(moments_of(x, y).error(guess), expected, rtol=1e-9)


def test_heavy_damping_moves_the_constant_alone() -> None:
    x, y, weights = problem()
    start = weights.copy()
    start[-1] = 7.0
    start[0] += 0.5
    found = fit(moments_of(x, y), start, 1e9, constant=True)
    np.testing.assert_allclose(found[:-1], start[:-1], atol=1e-6)
    assert np.abs(found[-1] - start[-1]).min() > 1.0


def test_a_feature_that_never_varies_and_a_constant_target_do_no_harm() -> None:
    x, y, _ = problem()
    x[:, 2] = 0.0
    y[:, 1] = 0.0
    moments = moments_of(x, y)
    found = fit(moments, np.zeros((6, 3)), 1e-4, constant=True)
    assert np.isfinite(found).all()
    assert moments.error(found)[1] == pytest.approx(0.0)


def test_more_features_than_rows_stay_solvable() -> None:
    x, y, _ = problem(4)
    assert np.isfinite(fit(moments_of(x, y), np.zeros((6, 3)), 1e-4, constant=False)).all()
