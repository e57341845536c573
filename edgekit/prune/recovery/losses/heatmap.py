"""The loss of CenterNet (Zhou et al., arXiv:1904.07850): focal loss on the heat, L1 on sizes and offsets."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from edgekit.prune.recovery.losses.probability import logs
from edgekit.prune.recovery.losses.teaching import Arrays, Loss, Tensors

SIZE_WEIGHT = 0.1  # of sizes in places
OFFSET_WEIGHT = 1.0
_OVERLAP = 0.7  # IoU that a box still has with the truth when its corners are off by the radius
_FOCUS, _REDUCTION = 2.0, 4.0


def heatmap(outputs: Arrays, task: dict[str, Any]) -> Loss:
    """Return the loss of scores (B, H, W, C), sizes (B, H, W, 2) and, where named, offsets; channels last or first."""
    sizes = outputs[task["boxes_output"]].shape
    channels_first = sizes[3] != 2 and sizes[1] == 2
    stride = float(task.get("stride", 4))
    unit = 1.0 if task.get("size_unit") == "places" else stride

    def maps(found: Tensors, key: str) -> tf.Tensor:
        values = tf.cast(found[task[key]], tf.float32)
        return tf.transpose(values, (0, 2, 3, 1)) if channels_first else values

    def loss(found: Tensors, labels: Tensors) -> tf.Tensor:
        scores, present = maps(found, "scores_output"), labels["present"]
        height, width = scores.shape[1:3]
        centres, spans = _places(labels["boxes"], stride)
        cell = tf.clip_by_value(tf.floor(centres), 0.0, [width - 1.0, height - 1.0])
        heat = _gaussians(cell, spans, labels["classes"], present, scores.shape)
        count = tf.maximum(tf.reduce_sum(present), 1.0)
        total = _focal(scores, heat, bool(task.get("score_logits"))) / count
        index = tf.cast(cell[..., 1] * width + cell[..., 0], tf.int32)
        sizes = _at(maps(found, "boxes_output"), index) / unit
        total += SIZE_WEIGHT * _distance(sizes, spans, present) / count
        if task.get("offsets_output"):
            offsets = _at(maps(found, "offsets_output"), index)
            total += OFFSET_WEIGHT * _distance(offsets, centres - cell, present) / count
        return total

    return loss


def _places(boxes: tf.Tensor, stride: float) -> tuple[tf.Tensor, tf.Tensor]:
    """Return centres and (width, height), both (B, M, 2) x before y, in places of the map."""
    return (boxes[..., :2] + boxes[..., 2:]) / (2 * stride), (boxes[..., 2:] - boxes[..., :2]) / stride


def _gaussians(
    cell: tf.Tensor, spans: tf.Tensor, classes: tf.Tensor, present: tf.Tensor, shape: tf.TensorShape
) -> tf.Tensor:
    """Draw a peak of 1 at every object's place into (B, H, W, C); where two meet, the higher counts."""
    height, width, count = shape[1:]
    images, objects = tf.shape(cell)[0], tf.shape(cell)[1]
    spread = (2 * radius(spans[..., 0], spans[..., 1]) + 1) / 6

    def fall(places: int, centre: tf.Tensor) -> tf.Tensor:
        distance = tf.range(places, dtype=tf.float32) - centre[..., tf.newaxis]
        return tf.exp(-((distance / spread[..., tf.newaxis]) ** 2) / 2)

    down, across = fall(height, cell[..., 1]), fall(width, cell[..., 0])
    peaks = present[..., tf.newaxis, tf.newaxis] * down[..., :, tf.newaxis] * across[..., tf.newaxis, :]
    owner = tf.range(images)[:, tf.newaxis] * count + tf.cast(classes, tf.int32)
    flat = tf.reshape(peaks, (images * objects, height * width))
    highest = tf.math.unsorted_segment_max(flat, tf.reshape(owner, [-1]), images * count)
    heat = tf.reshape(tf.maximum(highest, 0.0), (images, count, height, width))
    return tf.stop_gradient(tf.transpose(heat, (0, 2, 3, 1)))


def radius(width: tf.Tensor, height: tf.Tensor) -> tf.Tensor:
    """Return how far both corners of a box may be off while the IoU stays at least 0.7 (Law & Deng, arXiv:1808.01244).

    The smallest over three cases, each the root of a quadratic: both corners move alike, inwards, outwards.
    """
    around, area = width + height, width * height
    alike = _smaller_root(1.0, -around, area * (1 - _OVERLAP) / (1 + _OVERLAP))
    inwards = _smaller_root(4.0, -2 * around, (1 - _OVERLAP) * area)
    grown = 2 * _OVERLAP * around
    outwards = (-grown + tf.sqrt(grown**2 + 16 * _OVERLAP * (1 - _OVERLAP) * area)) / (8 * _OVERLAP)
    return tf.minimum(alike, tf.minimum(inwards, outwards))


def _smaller_root(a: float, b: tf.Tensor, c: tf.Tensor) -> tf.Tensor:
    return (-b - tf.sqrt(tf.maximum(b**2 - 4 * a * c, 0.0))) / (2 * a)


def _focal(scores: tf.Tensor, heat: tf.Tensor, logits: bool) -> tf.Tensor:
    """Return the penalty-reduced focal loss, summed."""
    log_hit, log_miss = logs(scores, logits)
    peak = tf.cast(heat >= 1.0, tf.float32)
    hit = peak * tf.exp(_FOCUS * log_miss) * log_hit
    miss = (1 - peak) * (1 - heat) ** _REDUCTION * tf.exp(_FOCUS * log_hit) * log_miss
    return -tf.reduce_sum(hit + miss)


def _at(values: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
    """Return (B, M, 2) of a map (B, H, W, 2) at flat places (B, M)."""
    return tf.gather(tf.reshape(values, (tf.shape(values)[0], -1, values.shape[-1])), index, batch_dims=1)


def _distance(found: tf.Tensor, wanted: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(tf.abs(found - wanted) * present[..., tf.newaxis])
