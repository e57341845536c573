"""Logarithms of scores, whether the network puts out probabilities or logits."""

from __future__ import annotations

import tensorflow as tf

_FLOOR = 1e-6  # keeps a wrong, certain answer finite

Logs = tuple[tf.Tensor, tf.Tensor]


def logs(values: tf.Tensor, logits: bool) -> Logs:
    """Return log p and log(1 - p) of independent scores."""
    values = tf.cast(values, tf.float32)
    if logits:
        return -tf.nn.softplus(-values), -tf.nn.softplus(values)
    within = tf.clip_by_value(values, 0.0, 1.0) * (1.0 - 2 * _FLOOR) + _FLOOR
    return tf.math.log(within), tf.math.log1p(-within)


def both(first: Logs, second: Logs) -> Logs:
    """Return the logarithms of the product of two probabilities, as of objectness and class."""
    log_product = first[0] + second[0]
    return log_product, tf.math.log1p(-tf.exp(log_product) * (1.0 - _FLOOR))


def divergence(target: tf.Tensor, scores: Logs) -> tf.Tensor:
    """Return KL(target || score) of each independent score: binary cross-entropy that is 0 where they agree."""
    return tf.math.xlogy(target, target) + tf.math.xlogy(1 - target, 1 - target) - (
        target * scores[0] + (1 - target) * scores[1]
    )  # fmt: skip
