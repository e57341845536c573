"""Paired bootstrap over samples: both models are scored on the same resampled test sets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekit.tasks import Drop

Floats = npt.NDArray[np.float64]
LEVEL = 0.95


def resample_weights(samples: int, resamples: int, seed: int) -> Floats:
    """Return (resamples, samples): how often each sample was drawn, with replacement."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(samples, np.full(samples, 1.0 / samples), size=resamples).astype(np.float64)


def drop_from(difference: float, resampled: Floats) -> Drop:
    """Make a Drop of baseline minus this (0 to 1): the figure, and one per resample (NaN where undefined).

    The interval is the percentile interval (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
    """
    defined = resampled[np.isfinite(resampled)]
    if not len(defined):
        return Drop(100 * difference, 100 * difference, 100 * difference)
    low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Drop(100 * difference, 100 * float(low), 100 * float(high))


def drop_of_means(baseline: Floats, this: Floats, resamples: int, seed: int) -> Drop:
    """Return the drop of a metric that is a mean over samples; both arrays hold one figure per sample."""
    difference = baseline - this
    weights = resample_weights(len(difference), resamples, seed)
    return drop_from(float(difference.mean()), weights @ difference / len(difference))
