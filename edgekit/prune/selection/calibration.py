"""Make scores of different blocks comparable: scale them to what cutting parts of each block was measured to cost."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_SHARES = (0.25, 0.5, 0.75)  # of a block

Costs = npt.NDArray[np.float64]


def measured_ends(units: int) -> list[int]:
    """Return how many units of a block go in each measurement."""
    return sorted({math.ceil(share * units) for share in _SHARES})


def calibrated(costs: Costs, ends: Sequence[int], measured: Sequence[float]) -> Costs:
    """Scale costs so that they add up to what was measured at each of ``ends``; they never fall along the order.

    costs: (units,) of one block, in the order in which they would go.
    """
    scaled, start, before, factor = costs.copy(), 0, 0.0, 0.0
    for end, now in zip(ends, measured, strict=True):
        estimate = float(np.sum(costs[start:end]))
        if math.isfinite(now) and estimate > 0:
            factor = max(now - before, 0.0) / estimate
        scaled[start:end] *= factor
        start, before = end, now
    scaled[start:] *= factor
    return np.asarray(np.maximum.accumulate(scaled) * (1.0 + 1e-9 * np.arange(len(costs))), np.float64)
