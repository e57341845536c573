"""How far a student's outputs are from its teacher's, on one scale for every kind of output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edgekit.prune.keras.signature import Arrays
from edgekit.prune.recovery.detections import find_detections

Tensors = dict[str, tf.Tensor]
Distance = Callable[[Tensors, Tensors], tf.Tensor]

EPSILON = 1e-6  # keeps logarithms of float32 probabilities finite
HUBER_DELTA = 1.0  # in units of the teacher's spread
BOX_DELTA = 0.1  # mAP@[.5:.95] pays for errors far below a box's spread: keep their gradient, like an L1 loss


@dataclass(frozen=True)
class Distillation:
    """The mean over outputs of a distance that is 0 for a perfect student and about 1 for a constant one."""

    distances: tuple[Distance, ...]

    @staticmethod
    def fit(taught: Arrays) -> Distillation:
        """Choose a distance per output from the teacher's outputs on the training samples.

        Probabilities that sum to 1: categorical KL. Values in [0, 1]: binary KL. Boxes (N, 4) beside scores
        (N, C): Huber, weighted by the teacher's best score per row. Else Huber. Integer outputs: nothing.
        """
        floats = {name: array for name, array in taught.items() if np.issubdtype(array.dtype, np.floating)}
        pairs = {
            boxes: scores
            for boxes, scores in find_detections({name: array.shape for name, array in floats.items()}).items()
            if _in_unit_range(floats[scores])
        }
        return Distillation(tuple(_choose(name, array, floats, pairs) for name, array in floats.items()))

    def __call__(self, outputs: Tensors, taught: Tensors) -> tf.Tensor:
        if not self.distances:
            return tf.zeros(())
        targets = {name: tf.cast(value, tf.float32) for name, value in taught.items()}
        return tf.add_n([distance(outputs, targets) for distance in self.distances]) / len(self.distances)


def _choose(name: str, array: npt.NDArray[Any], taught: Arrays, pairs: dict[str, str]) -> Distance:
    if name in pairs:
        return _weighted_huber(name, pairs[name], array, taught[pairs[name]])
    if not _in_unit_range(array):
        return _huber(name, array)
    sums = array.sum(axis=-1, dtype=np.float64)
    if array.shape[-1] > 1 and np.allclose(sums, 1.0, atol=1e-3):
        return _categorical(name, array)
    return _binary(name, array)


def _in_unit_range(array: npt.NDArray[Any]) -> bool:
    return bool(array.min() >= 0.0 and array.max() <= 1.0)


def _channel_means(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.asarray(array.mean(axis=tuple(range(array.ndim - 1)), dtype=np.float64))


def _categorical(name: str, array: npt.NDArray[Any]) -> Distance:
    """KL(teacher || student) over the last axis, over that of the best constant student."""
    top = 1.0 - EPSILON
    constant = np.clip(_channel_means(array), EPSILON, 1.0)
    known = np.clip(array.astype(np.float64), EPSILON, 1.0)
    scale = _positive(np.mean(np.sum(known * (np.log(known) - np.log(constant)), axis=-1)))

    def distance(outputs: Tensors, taught: Tensors) -> tf.Tensor:
        target = tf.clip_by_value(taught[name], EPSILON, 1.0)
        guess = tf.cast(outputs[name], tf.float32) * top + EPSILON
        divergence = tf.reduce_sum(target * (tf.math.log(target) - tf.math.log(guess)), axis=-1)
        return tf.reduce_mean(divergence) / scale

    return distance


def _binary(name: str, array: npt.NDArray[Any]) -> Distance:
    """KL between independent probabilities, over that of the best constant student."""
    top = 1.0 - EPSILON
    constant = np.clip(_channel_means(array), EPSILON, top)
    known = np.clip(array.astype(np.float64), EPSILON, top)
    scale = _positive(
        np.mean(known * (np.log(known) - np.log(constant)) + (1.0 - known) * (np.log1p(-known) - np.log1p(-constant)))
    )

    def distance(outputs: Tensors, taught: Tensors) -> tf.Tensor:
        target = tf.clip_by_value(taught[name], EPSILON, top)
        guess = tf.cast(outputs[name], tf.float32) * (top - EPSILON) + EPSILON
        divergence = target * (tf.math.log(target) - tf.math.log(guess)) + (1.0 - target) * (
            tf.math.log1p(-target) - tf.math.log1p(-guess)
        )
        return tf.reduce_mean(divergence) / scale

    return distance


def _huber(name: str, array: npt.NDArray[Any]) -> Distance:
    """Huber loss of differences in units of each channel's standard deviation (1 for a constant student)."""
    deviation = array.astype(np.float64) - _channel_means(array)
    spread = np.sqrt(np.mean(deviation**2, axis=tuple(range(array.ndim - 1))))
    unit = np.maximum(spread, max(1e-3 * float(spread.max()), 1e-12)).astype(np.float32)
    scale = _positive(np.mean(_huber_of(deviation / unit, HUBER_DELTA)))

    def distance(outputs: Tensors, taught: Tensors) -> tf.Tensor:
        difference = (tf.cast(outputs[name], tf.float32) - taught[name]) / unit
        return tf.reduce_mean(_tensor_huber(difference, HUBER_DELTA)) / scale

    return distance


def _weighted_huber(boxes: str, scores: str, array: npt.NDArray[Any], confidence: npt.NDArray[Any]) -> Distance:
    """Huber loss of box differences, each row weighted by the teacher's best score.

    The unit is the weighted spread of the boxes around the mean box of their own row (a grid cell).
    """
    weights = confidence.max(axis=-1, keepdims=True).astype(np.float64)
    mean = np.sum(array * weights, axis=0) / _positive_array(np.sum(weights, axis=0))
    deviation = array - mean
    unit = np.float32(_positive(np.sqrt(np.sum(weights * deviation**2) / _positive(4.0 * np.sum(weights)))))
    scale = _positive(np.sum(weights * _huber_of(deviation / unit, BOX_DELTA)) / _positive(4.0 * np.sum(weights)))

    def distance(outputs: Tensors, taught: Tensors) -> tf.Tensor:
        weight = tf.reduce_max(taught[scores], axis=-1, keepdims=True)
        difference = (tf.cast(outputs[boxes], tf.float32) - taught[boxes]) / unit
        total = tf.reduce_sum(weight * _tensor_huber(difference, BOX_DELTA))
        return total / (4.0 * tf.reduce_sum(weight) + EPSILON) / scale

    return distance


def _huber_of(values: npt.NDArray[np.float64], delta: float) -> npt.NDArray[np.float64]:
    size = np.abs(values)
    return np.asarray(np.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta)))


def _tensor_huber(values: tf.Tensor, delta: float) -> tf.Tensor:
    size = tf.abs(values)
    return tf.where(size <= delta, 0.5 * size**2, delta * (size - 0.5 * delta))


def _positive(value: Any) -> float:
    return max(float(value), 1e-12)


def _positive_array(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(np.maximum(values, 1e-12))
