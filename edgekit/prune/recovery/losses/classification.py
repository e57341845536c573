"""The loss of classifiers: cross-entropy with the true class, of probabilities or of logits."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from edgekit.prune.recovery.losses.teaching import Arrays, Loss, Tensors

_FLOOR = 1e-7  # of a probability: keeps a wrong, certain answer finite
_SUM_TOLERANCE = 0.05  # float16 and rounded probabilities still count as such


def scored_output(outputs: Arrays) -> str:
    """Return the output that classifies, as ``edgekit.tasks.classification`` chooses it: the one with most values."""
    return min(outputs, key=lambda name: (-outputs[name][0].size, name))


def cross_entropy(outputs: Arrays) -> Loss:
    """Return the loss for labels ``class`` (B,); ``outputs`` of the trained model say whether they are logits."""
    name = scored_output(outputs)
    scores = outputs[name].reshape(len(outputs[name]), -1).astype(np.float64)
    logits = not (scores.min() >= 0.0 and np.allclose(scores.sum(axis=1), 1.0, atol=_SUM_TOLERANCE))

    def loss(found: Tensors, labels: Tensors) -> tf.Tensor:
        values = tf.reshape(tf.cast(found[name], tf.float32), (-1, scores.shape[1]))
        known = tf.nn.log_softmax(values) if logits else tf.math.log(tf.clip_by_value(values, _FLOOR, 1.0))
        return -tf.reduce_mean(tf.gather(known, labels["class"], axis=1, batch_dims=1))

    return loss
