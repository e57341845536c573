"""Least squares from accumulated second moments: fit, compare and damp without seeing the samples again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
DAMPINGS = (1e-4, 1e-2, 1e-1, 1.0, 100.0)  # the last leaves little but the constant
MOST_FEATURES = 4608  # a 3x3 convolution of 512 channels; above, moments and solving take minutes
ROWS_PER_FEATURE = 24
ROWS = (4096, 49152)
UNCHANGED = 1e-6  # relative error below which a layer has nothing to repair


@dataclass
class Moments:
    """Sums over rows of features x (a constant 1 may be the last) and targets y."""

    gram: Matrix  # (features, features) of x x'
    cross: Matrix  # (features, outputs) of x y'
    square: Matrix  # (outputs,) of y^2
    total: Matrix  # (outputs,) of y
    rows: int

    @staticmethod
    def empty(features: int, outputs: int) -> Moments:
        return Moments(
            np.zeros((features, features)), np.zeros((features, outputs)), np.zeros(outputs), np.zeros(outputs), 0
        )

    def add(self, gram: Matrix, cross: Matrix, square: Matrix, total: Matrix, rows: int) -> None:
        self.gram += gram
        self.cross += cross
        self.square += square
        self.total += total
        self.rows += rows

    def error(self, weights: Matrix) -> Matrix:
        """Return the (outputs,) squared error of x'weights over the variance of y, or 1e-3 of its square if larger."""
        explained = np.einsum("io,io->o", weights, self.gram @ weights - 2.0 * self.cross)
        spread = self.square - self.total**2 / max(self.rows, 1)
        return np.asarray(np.maximum(self.square + explained, 0.0) / np.maximum(spread, 1e-3 * self.square + 1e-30))


def fit(moments: Moments, start: Matrix, damping: float, constant: bool) -> Matrix:
    """Return the (features, outputs) weights of least error plus damping x features' squares x (change from start)^2.

    With ``constant`` the last feature, always 1, is not damped.
    """
    power = np.diag(moments.gram).copy()
    ridge = damping * (power + 1e-6 * float(power.mean()) + 1e-30)
    if constant:
        ridge[-1] = 1e-12 * power[-1]
    matrix = moments.gram + np.diag(ridge)
    change = np.linalg.solve(matrix, moments.cross - moments.gram @ start)
    return np.asarray(start + change)


@dataclass(frozen=True, eq=False)
class Damped:
    """(features, outputs) weights, and the (outputs,) errors on unseen rows before and after."""

    weights: Matrix
    before: Matrix
    after: Matrix


def damped_fit(known: Moments, unseen: Moments, start: Matrix, constant: bool) -> Damped:
    """Fit on ``known`` rows; each output keeps the damping that errs least on ``unseen`` ones, or its old weights."""
    before = unseen.error(start)
    best, after = start, before
    if float(before.mean()) > UNCHANGED:
        for damping in DAMPINGS:
            weights = fit(known, start, damping, constant)
            error = unseen.error(weights)
            best, after = np.where(error < after, weights, best), np.minimum(error, after)
    return Damped(best, before, after)


def rows_wanted(features: int) -> int:
    """Return how many rows the moments of a layer are summed over."""
    return min(max(ROWS_PER_FEATURE * features, ROWS[0]), ROWS[1])
