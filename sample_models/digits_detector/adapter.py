"""Say how the detector is trained: target encoding and loss, for `make.py` and for recovery after pruning."""

from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

STRIDE = 4
CLASS_COUNT = 10
BOX_LOSS_WEIGHT = 2.0
EPSILON = 1e-6


def encode_labels(
    boxes: npt.NDArray[Any], classes: npt.NDArray[Any], input_shape: tuple[int, ...], class_count: int = CLASS_COUNT
) -> dict[str, npt.NDArray[np.float32]]:
    """Turn the labels of one image into training targets of fixed shape.

    `boxes` is (n, 4) xyxy in pixels, `classes` (n,) from 0, `input_shape` (height, width, 3).
    Returns "heatmap" (N, class_count) with Gaussian peaks of 1 at the cell that holds each box centre,
    "boxes" (N, 4) with the box each cell has to predict and "box_weight" (N,), 0 where it has none;
    N = height / 4 * width / 4. CenterNet's targets (arXiv:1904.07850) with a box per cell near a centre.
    """
    height, width = input_shape[0] // STRIDE, input_shape[1] // STRIDE
    heatmap = np.zeros((height, width, class_count), np.float32)
    box_target = np.zeros((height, width, 4), np.float32)
    box_weight = np.zeros((height, width), np.float32)
    rows, columns = np.mgrid[0:height, 0:width]
    for box, class_index in zip(boxes, classes, strict=True):
        x_min, y_min, x_max, y_max = (float(value) for value in box)
        column = min(int((x_min + x_max) / 2 / STRIDE), width - 1)
        row = min(int((y_min + y_max) / 2 / STRIDE), height - 1)
        spread_x = max(0.6, (x_max - x_min) / STRIDE / 8)
        spread_y = max(0.6, (y_max - y_min) / STRIDE / 8)
        distance = ((columns - column) / spread_x) ** 2 + ((rows - row) / spread_y) ** 2
        peak = np.exp(-distance / 2).astype(np.float32)
        np.maximum(heatmap[..., int(class_index)], peak, out=heatmap[..., int(class_index)])
        owned = (peak > 0.1) & (peak > box_weight)
        box_target[owned] = (x_min, y_min, x_max, y_max)
        box_weight[owned] = peak[owned]
    return {
        "heatmap": heatmap.reshape(-1, class_count),
        "boxes": box_target.reshape(-1, 4),
        "box_weight": box_weight.reshape(-1),
    }


def loss(outputs: dict[str, tf.Tensor], labels: dict[str, tf.Tensor]) -> tf.Tensor:
    """Return the scalar loss of a batch: focal loss on the scores plus weighted GIoU loss on the boxes."""
    focal = _focal_loss(outputs["scores"], labels["heatmap"])
    weight = labels["box_weight"]
    box = tf.reduce_sum(weight * (1.0 - _giou(outputs["boxes"], labels["boxes"])))
    return focal + BOX_LOSS_WEIGHT * box / tf.maximum(tf.reduce_sum(weight), 1.0)


def _focal_loss(scores: tf.Tensor, heatmap: tf.Tensor) -> tf.Tensor:
    """Penalty-reduced focal loss (arXiv:1904.07850, equation 1), per object."""
    scores = tf.clip_by_value(scores, EPSILON, 1.0 - EPSILON)
    positive = tf.cast(heatmap >= 1.0, scores.dtype)
    hit = positive * (1.0 - scores) ** 2 * tf.math.log(scores)
    miss = (1.0 - positive) * (1.0 - heatmap) ** 4 * scores**2 * tf.math.log(1.0 - scores)
    return -tf.reduce_sum(hit + miss) / tf.maximum(tf.reduce_sum(positive), 1.0)


def _giou(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Generalized IoU (arXiv:1902.09630) of paired xyxy boxes, shape (..., 4) to (...)."""
    x1, y1, x2, y2 = tf.unstack(first, axis=-1)
    u1, v1, u2, v2 = tf.unstack(second, axis=-1)
    overlap_width = tf.maximum(tf.minimum(x2, u2) - tf.maximum(x1, u1), 0.0)
    overlap_height = tf.maximum(tf.minimum(y2, v2) - tf.maximum(y1, v1), 0.0)
    intersection = overlap_width * overlap_height
    union = (x2 - x1) * (y2 - y1) + (u2 - u1) * (v2 - v1) - intersection
    hull = (tf.maximum(x2, u2) - tf.minimum(x1, u1)) * (tf.maximum(y2, v2) - tf.minimum(y1, v1))
    return intersection / (union + EPSILON) - (hull - union) / (hull + EPSILON)
