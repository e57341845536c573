"""Train a detector of the samples' kind from scratch, on few labelled images that are zoomed, moved and relit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edgekit.artifact import TensorSpec
from edgekit.dataset import Preprocess, open_dataset
from edgekit.prune.recovery.label_augmentation import move
from edgekit.prune.recovery.losses.truth import padded_boxes
from sample_models.digits_detector import adapter

RATE, WARMUP_EPOCHS = 2e-3, 3


def train(model: keras.Model, data: Path, *, epochs: int, seed: int, symmetric: bool, batch: int = 16) -> None:
    """Train in place on ``data``/train and train.json: AdamW, one cosine.

    Build ``model`` after ``keras_io.deterministic(seed)``. It answers "boxes" (N, 4) and "scores" (N, classes), as
    the digits detector does. ``symmetric``: what is mirrored left to right keeps its label.
    """
    samples = open_dataset("coco", data / "train", data / "train.json", Preprocess(None, "rgb", (0.0,), (1 / 255,)),
                           labelled=True)  # fmt: skip
    inputs = samples.stacked((TensorSpec("image", (1, *map(int, model.inputs[0].shape[1:])), "float32"),))
    truth, classes = padded_boxes(samples.truth), len(samples.classes)
    per_epoch = len(samples) // batch
    schedule = keras.optimizers.schedules.CosineDecay(
        1e-5, per_epoch * (epochs - WARMUP_EPOCHS), warmup_target=RATE, warmup_steps=per_epoch * WARMUP_EPOCHS
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=1e-4, global_clipnorm=10.0)
    optimizer.build(model.trainable_variables)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(images: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            value = adapter.loss(model(images, training=True), labels)
        optimizer.apply(tape.gradient(value, model.trainable_variables), model.trainable_variables)
        return value

    generator, start = np.random.default_rng(seed), time.monotonic()
    for epoch in range(1, epochs + 1):
        total = 0.0
        for rows in generator.permutation(len(samples))[: per_epoch * batch].reshape(-1, batch):
            part = {name: array[rows] for name, array in truth.items()}
            moved, known = move({"image": inputs["image"][rows]}, part, generator, symmetric=symmetric)
            total += float(step(tf.constant(moved["image"]), _encoded(known, moved["image"].shape[1:], classes)))
        print(f"epoch {epoch}: loss {total / per_epoch:.4f}, {time.monotonic() - start:.0f} s", flush=True)


def _encoded(truth: dict[str, Any], shape: tuple[int, ...], classes: int) -> dict[str, Any]:
    encoded = []
    for boxes, numbers, present in zip(truth["boxes"], truth["classes"], truth["present"], strict=True):
        there = present > 0
        encoded.append(adapter.encode_labels(boxes[there], numbers[there], shape, classes))
    return {key: tf.constant(np.stack([one[key] for one in encoded])) for key in encoded[0]}
