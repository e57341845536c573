"""How far the answers of a rounded network are from the float ones, in the unit that plans are judged in.

Absolute differences: rounding is small noise on every answer, where a logarithm or a square sees the largest alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edgekit.prune.keras.signature import Arrays
from edgekit.prune.recovery.detections import find_detections

Tensors = dict[str, tf.Tensor]
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Distance:
    """The mean over outputs of the mean absolute difference; 0 for equal answers, about 1 for a constant one.

    ``units``: by output. ``scores``: by boxes output (N, 4), the scores (N, C) that say how much a row matters.
    """

    units: dict[str, float]
    scores: dict[str, str]

    @classmethod
    def fit(cls, taught: Arrays) -> Distance:
        """Take the units from the float network's answers, (N, ...) by name; integer outputs do not count."""
        floats = {name: array for name, array in taught.items() if np.issubdtype(array.dtype, np.floating)}
        scores = find_detections({name: array.shape for name, array in floats.items()})
        weights = {name: _weights(floats[scores[name]]) if name in scores else None for name in floats}
        return cls({name: _spread(array, weights[name]) for name, array in floats.items()}, scores)

    def __call__(self, outputs: Tensors, taught: Tensors) -> tf.Tensor:
        parts = []
        for name, unit in self.units.items():
            difference = tf.abs(tf.cast(outputs[name], tf.float32) - tf.cast(taught[name], tf.float32))
            if name in self.scores:
                weight = tf.reduce_max(tf.abs(taught[self.scores[name]]), axis=-1, keepdims=True)
                width = float(difference.shape[-1])
                mean = tf.reduce_sum(weight * difference) / (width * tf.reduce_sum(weight) + _SMALLEST)
            else:
                mean = tf.reduce_mean(difference)
            parts.append(mean / unit)
        return tf.add_n(parts) / len(parts) if parts else tf.zeros(())


def _weights(scores: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(np.abs(scores).max(axis=-1, keepdims=True))


def _spread(array: npt.NDArray[Any], weights: npt.NDArray[Any] | None) -> float:
    """Return the mean absolute deviation from the mean answer; where that is 0, the mean size."""
    values = array.astype(np.float64)
    counted = np.broadcast_to(1.0 if weights is None else weights, values.shape)
    total = max(float(counted.sum()), _SMALLEST)
    deviation = float((counted * np.abs(values - values.mean(axis=0))).sum()) / total
    return max(deviation or float((counted * np.abs(values)).sum()) / total, _SMALLEST)
