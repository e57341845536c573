"""Round weights to int8 so that what a layer makes of its real inputs changes least, not the weights themselves.

Column by column; what the rounding of the columns before did to the outputs is made up for by the next one. No
training, only a factorization. After Frantar et al., "GPTQ" (2022), in the form of Babai's nearest plane;
Nagel et al., "Up or Down?" (2020), has the same aim.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
STEPS = 127
_DAMPING = 0.01  # of the mean power of a column: directions that no sample excited stay where they are
_BLOCK = 64  # columns, whose effect on the ones to come is one product of matrices


def scales_of(weights: Array) -> Array:
    """Return the step of every output channel, (..., outputs, 1), as the emitters choose it; 1 for zeros."""
    peaks = np.abs(weights).max(axis=-1, keepdims=True).astype(np.float64)
    return np.where(peaks > 0, peaks / STEPS, 1.0)


def nearest(weights: Array) -> Array:
    """Return the (..., outputs, columns) weights each on the nearest point of its grid, as emitters round."""
    scales = scales_of(weights)
    result: Array = np.clip(np.rint(weights / scales), -STEPS, STEPS) * scales
    return result


def least_error(weights: Array, second: Array) -> Array:
    """Return the (outputs, columns) weights on the grids of their channels, with a small error of the outputs.

    ``second``: (columns, columns), E[x x^T] of the inputs, or their covariance where a bias takes the mean. The
    largest weight of every channel keeps its code, so an emitter finds the same grid again.
    """
    power = np.diag(second)
    if not power.any():
        return nearest(weights)
    order = np.argsort(power, kind="stable")  # from the end: the strongest first, while most can still make up for it
    damped = second[np.ix_(order, order)] + _DAMPING * power.mean() * np.eye(len(power))
    factor = np.linalg.cholesky(damped).T
    found = np.empty(weights.shape)
    found[:, order] = _nearest_plane(weights[:, order].astype(np.float64), factor / np.diag(factor)[:, None])
    return found


def _nearest_plane(wanted: Array, factor: Array) -> Array:
    """Round from the last column to the first. ``factor``: upper triangular with a diagonal of ones."""
    columns = wanted.shape[1]
    scales = scales_of(wanted)[:, 0]
    largest = np.abs(wanted).argmax(axis=1)
    found, error = np.empty_like(wanted), np.zeros_like(wanted)
    for end in range(columns, 0, -_BLOCK):
        begin = max(0, end - _BLOCK)
        carried = error[:, end:] @ factor[begin:end, end:].T
        for column in range(end - 1, begin - 1, -1):
            own = error[:, column + 1 : end] @ factor[column, column + 1 : end]
            aim = wanted[:, column] + carried[:, column - begin] + own
            codes = np.clip(np.rint(aim / scales), -STEPS, STEPS)
            codes = np.where(largest == column, np.rint(wanted[:, column] / scales), codes)
            found[:, column] = codes * scales
            error[:, column] = wanted[:, column] - found[:, column]
    return found
