"""Decide which of a detector's rows answers for which true box, by what the network itself predicts.

Task-aligned assignment (TOOD, Feng et al., arXiv:2108.07755): a row's claim on a box is a power of its score for the
box's class times one of its IoU with the box. It needs no anchors, so it serves any detector that puts out boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from edgekit.prune.recovery.losses.geometry import pairwise
from edgekit.prune.recovery.losses.teaching import Tensors

SCORE_POWER = 0.5
IOU_POWER = 6.0
ROWS_PER_BOX = 10
_LOST = 0.1  # a true box whose best IoU is below this takes the nearest row, so that it attracts one at all
_TINY = 1e-30


@dataclass(frozen=True)
class Assignment:
    """Per row: ``scores`` (B, N, C) it shall predict, ``boxes`` (B, N, 4) in pixels, and their ``weight`` (B, N)."""

    scores: tf.Tensor
    boxes: tf.Tensor
    weight: tf.Tensor


def assign(corners: tf.Tensor, scores: tf.Tensor, truth: Tensors) -> Assignment:
    """Match rows, corners (B, N, 4) in pixels and scores (B, N, C) in [0, 1], with padded truth; no gradient passes.

    The best row of a box shall score its IoU, the others less in proportion to their claims. A row serves one box.
    """
    corners, scores = tf.stop_gradient(corners), tf.stop_gradient(scores)
    present = truth["present"][:, :, tf.newaxis]
    iou, generalized = pairwise(truth["boxes"], corners)  # (B, M, N), as everything below
    own_class = tf.transpose(tf.gather(scores, truth["classes"], axis=2, batch_dims=1), (0, 2, 1))
    claim = present * own_class**SCORE_POWER * iou**IOU_POWER
    best = tf.math.top_k(claim, k=min(ROWS_PER_BOX, claim.shape[-1])).values
    chosen = (claim >= best[..., -1:]) & (claim > 0)
    lost = tf.reduce_max(iou, axis=-1, keepdims=True) < _LOST
    nearest = generalized >= tf.reduce_max(generalized, axis=-1, keepdims=True)
    wanted = tf.where(lost, nearest, chosen) & (present > 0)

    strength = tf.where(wanted, generalized + 2.0, 0.0)  # at least 1 where wanted: several boxes may want a row
    owner = tf.one_hot(tf.argmax(strength, axis=1), strength.shape[1], axis=1)
    held = owner * tf.cast(wanted, tf.float32)
    claim *= held
    top_iou = tf.reduce_max(iou * held, axis=-1, keepdims=True)
    target = claim / (tf.reduce_max(claim, axis=-1, keepdims=True) + _TINY) * top_iou
    weight = tf.where(lost, held, target)
    return Assignment(
        scores=tf.einsum("bmn,bmc->bnc", target, tf.one_hot(truth["classes"], scores.shape[2])),
        boxes=tf.einsum("bmn,bmd->bnd", held, truth["boxes"]),
        weight=tf.reduce_sum(weight, axis=1),
    )
