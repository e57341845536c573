"""Train and score the sample classifiers, reproducibly."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt


def train_classifier(
    network: keras.Model,
    x: npt.NDArray[Any],
    y: npt.NDArray[np.int64],
    *,
    epochs: int,
    batch_size: int,
    peak_learning_rate: float,
    weight_decay: float,
) -> keras.Model:
    """Train with AdamW and a cosine schedule; returns a never compiled copy, without optimizer state."""
    steps = epochs * -(-len(x) // batch_size)
    schedule = keras.optimizers.schedules.CosineDecay(
        1e-5, steps - steps // 20, warmup_target=peak_learning_rate, warmup_steps=steps // 20
    )
    network.compile(
        keras.optimizers.AdamW(schedule, weight_decay),
        loss={"probabilities": "sparse_categorical_crossentropy"},
        metrics={"probabilities": ["accuracy"]},
    )
    network.fit(x, {"probabilities": y}, batch_size, epochs, verbose=2)
    trained = keras.Model.from_config(network.get_config())
    trained.set_weights(network.get_weights())
    return trained


def top1_accuracy(model: keras.Model, x: npt.NDArray[Any], y: npt.NDArray[np.int64]) -> float:
    """Return the fraction of samples whose most probable class is the labelled one."""
    outputs = [
        np.asarray(model(x[start : start + 250], training=False)["probabilities"]) for start in range(0, len(x), 250)
    ]
    return float((np.concatenate(outputs).argmax(axis=1) == y).mean())
