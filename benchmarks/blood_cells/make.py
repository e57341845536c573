"""Make what the benchmark builds on: the data scaled, and the trained detector.

From the repository root: python -m benchmarks.blood_cells.make BCCD OUT [--epochs 110] [--width 1.0] [--seed 0]
Writes OUT/data and OUT/model.keras (OUT/width-W.keras for a narrower one).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.blood_cells.network import build
from benchmarks.blood_cells.prepare import CLASSES, prepare
from edgekit import keras_io
from edgekit.artifact import TensorSpec
from edgekit.dataset import Preprocess, open_dataset
from edgekit.prune.label_augmentation import move
from edgekit.prune.losses.truth import padded_boxes
from sample_models.digits_detector import adapter

BATCH, RATE = 16, 2e-3


def main() -> None:
    """Prepare the data, train, save."""
    parser = argparse.ArgumentParser(description="Prepare BCCD and train the detector.")
    parser.add_argument("bccd", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=110)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = options.out / "data"
    if not data.exists():
        prepare(options.bccd, data)
    model = train(data, options.epochs, options.width, options.seed)
    name = "model" if options.width == 1.0 else f"width-{options.width:g}-seed-{options.seed}"
    keras_io.save(model, options.out / f"{name}.keras")


def train(data: Path, epochs: int, width: float, seed: int) -> keras.Model:
    """Train from scratch: AdamW, one cosine, photographs mirrored, zoomed, moved and relit."""
    keras_io.deterministic(seed)
    model = build(width)
    samples = open_dataset("coco", data / "train", data / "train.json", Preprocess(None, "rgb", (0.0,), (1 / 255,)),
                           labelled=True)  # fmt: skip
    inputs = samples.stacked((TensorSpec("image", (1, *map(int, model.inputs[0].shape[1:])), "float32"),))
    truth = padded_boxes(samples.truth)
    per_epoch = len(samples) // BATCH
    schedule = keras.optimizers.schedules.CosineDecay(1e-5, per_epoch * (epochs - 3), warmup_target=RATE,
                                                      warmup_steps=per_epoch * 3)  # fmt: skip
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
        for rows in generator.permutation(len(samples))[: per_epoch * BATCH].reshape(-1, BATCH):
            part = {name: array[rows] for name, array in truth.items()}
            moved, known = move({"image": inputs["image"][rows]}, part, generator, symmetric=True)
            total += float(step(tf.constant(moved["image"]), _encoded(known, moved["image"].shape[1:])))
        if epoch % 10 == 0:
            print(f"epoch {epoch}: loss {total / per_epoch:.4f}, {time.monotonic() - start:.0f} s", flush=True)
    return model


def _encoded(truth: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    encoded = []
    for boxes, classes, present in zip(truth["boxes"], truth["classes"], truth["present"], strict=True):
        there = present > 0
        encoded.append(adapter.encode_labels(boxes[there], classes[there], shape, len(CLASSES)))
    return {key: tf.constant(np.stack([one[key] for one in encoded])) for key in encoded[0]}


if __name__ == "__main__":
    main()
