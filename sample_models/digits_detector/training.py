"""Train the detector on composed scenes, reproducibly."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edgekit import keras_io
from sample_models.digits_detector import adapter
from sample_models.digits_detector.network import build_detector
from sample_models.digits_detector.scenes import Scene

BATCH_SIZE = 32
PEAK_LEARNING_RATE = 2e-3
MAX_WARMUP_STEPS = 150


def train_detector(
    scenes: Sequence[Scene],
    *,
    epochs: int,
    seed: int,
    width_multiplier: float = 1.0,
    after_epoch: Callable[[keras.Model, int], None] | None = None,
) -> keras.Model:
    """Return the detector trained from scratch with AdamW and a cosine schedule, from the last epoch."""
    keras_io.deterministic(seed)
    model = build_detector(width_multiplier)
    steps_per_epoch = len(scenes) // BATCH_SIZE
    steps = epochs * steps_per_epoch
    warmup = min(MAX_WARMUP_STEPS, steps // 10)
    schedule = keras.optimizers.schedules.CosineDecay(
        1e-5, steps - warmup, warmup_target=PEAK_LEARNING_RATE, warmup_steps=warmup
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-4, global_clipnorm=10.0)
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def train_step(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            value = adapter.loss(model(images, training=True), labels)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(value, variables), variables)
        return value

    rng = np.random.default_rng(seed)
    for epoch in range(1, epochs + 1):
        started, total = time.monotonic(), 0.0
        order = rng.permutation(len(scenes))[: steps_per_epoch * BATCH_SIZE]
        for rows in order.reshape(steps_per_epoch, BATCH_SIZE):
            total += float(train_step(*_batch([scenes[row] for row in rows])))
        seconds = time.monotonic() - started
        print(f"epoch {epoch}/{epochs}: loss {total / steps_per_epoch:.4f}, {seconds:.0f} s", flush=True)
        if after_epoch is not None:
            after_epoch(model, epoch)
    return model


def _batch(scenes: list[Scene]) -> tuple[Any, dict[str, Any]]:
    images = np.stack([scene.pixels for scene in scenes]).astype(np.float32) / 255.0
    encoded = [adapter.encode_labels(scene.boxes, scene.classes, images.shape[1:]) for scene in scenes]
    return tf.constant(images), {key: tf.constant(np.stack([one[key] for one in encoded])) for key in encoded[0]}
