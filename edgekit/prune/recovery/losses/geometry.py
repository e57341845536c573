"""Boxes in TensorFlow: the recipe's formats as corners, IoU of all pairs, generalized IoU of paired boxes."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

_TINY = 1e-7


def corners(boxes: tf.Tensor, task: dict[str, Any]) -> tf.Tensor:
    """Return (..., 4) x1, y1, x2, y2 in pixels with no negative side, as ``edgekit.tasks.decoders`` reads them."""
    a, b, c, d = tf.unstack(tf.cast(boxes, tf.float32), axis=-1)
    x1, y1, x2, y2 = {
        "xyxy": lambda: (a, b, c, d),
        "yxyx": lambda: (b, a, d, c),
        "cxcywh": lambda: (a - c / 2, b - d / 2, a + c / 2, b + d / 2),
    }[task.get("box_format", "xyxy")]()
    found = tf.stack([x1, y1, tf.maximum(x2, x1), tf.maximum(y2, y1)], axis=-1)
    if task.get("box_scale") == "relative":
        height, width = task["image_size"]
        found *= tf.constant([width, height, width, height], tf.float32)
    return found


def pairwise(truth: tf.Tensor, boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return IoU and generalized IoU, both (B, M, N), of truth (B, M, 4) and boxes (B, N, 4)."""
    return _overlap(truth[:, :, tf.newaxis], boxes[:, tf.newaxis])


def giou(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Return the generalized IoU (arXiv:1902.09630), -1 to 1, of paired boxes (..., 4)."""
    return _overlap(first, second)[1]


def _overlap(first: tf.Tensor, second: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    shared = tf.minimum(first[..., 2:], second[..., 2:]) - tf.maximum(first[..., :2], second[..., :2])
    hull = tf.maximum(first[..., 2:], second[..., 2:]) - tf.minimum(first[..., :2], second[..., :2])
    intersection = _area(tf.maximum(shared, 0.0))
    union = _area(first[..., 2:] - first[..., :2]) + _area(second[..., 2:] - second[..., :2]) - intersection
    iou = intersection / (union + _TINY)
    return iou, iou - (_area(hull) - union) / (_area(hull) + _TINY)


def _area(sides: tf.Tensor) -> tf.Tensor:
    return sides[..., 0] * sides[..., 1]
