"""Train a pruned model back: distillation from the unpruned one, plus the task's loss where labels exist."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edgekit.errors import StageError
from edgekit.progress import Progress
from edgekit.prune.augmentation import has_images, mix
from edgekit.prune.distillation import Distillation
from edgekit.prune.signature import Arrays, as_tensors, call, predict, predictor, sample_count

Tensors = dict[str, tf.Tensor]
Loss = Callable[[Tensors, Tensors], tf.Tensor]

WEIGHT_DECAY = 1e-4
CLIP_NORM = 10.0
WARMUP = 0.1  # share of all steps in which the learning rate rises linearly
EMA_MOMENTUM = 0.99
MIXED_SHARE = 0.5  # of the steps, with augment


@dataclass(frozen=True)
class RecoverySettings:
    """How long and how hard to train.

    augment: half of the steps see shifted, mixed and relit images, labelled by the unpruned model alone.
    """

    epochs: int = 12
    batch: int = 8  # many small steps: the cut left good features, and time is what is short
    learning_rate: float = 1.5e-3
    distil_weight: float = 10.0  # the distance is about 1 for a constant student and 0.2 at the end
    seed: int = 0
    ema: bool = False
    augment: bool = True


@dataclass(frozen=True)
class Epoch:
    """Mean losses of one epoch; ``label_loss`` is None without labels."""

    total_loss: float
    distil_loss: float
    label_loss: float | None
    seconds: float


@dataclass(frozen=True)
class RecoveryResult:
    """What happened: ``seconds`` includes running the teacher once."""

    epochs: tuple[Epoch, ...]
    seconds: float
    samples: int

    def summary(self) -> dict[str, Any]:
        """Return the figures a report needs, as plain JSON values."""
        return {
            "samples": self.samples,
            "seconds": self.seconds,
            "epochs": [vars(epoch) for epoch in self.epochs],
        }


def recover(
    student: keras.Model,
    teacher: keras.Model,
    inputs: Arrays,
    labels: Arrays | None,
    loss: Loss | None,
    settings: RecoverySettings,
    progress: Progress,
) -> RecoveryResult:
    """Train ``student`` in place on loss(outputs, labels) + distil_weight x distance from the teacher.

    AdamW with a short warm-up and one cosine to zero; the last epoch is the result, nothing is selected on
    data. Reproducible to the bit where the caller enabled TensorFlow's op determinism.
    Raises StageError on a non-finite loss.
    """
    start = time.monotonic()
    if (labels is None) != (loss is None):
        raise ValueError("labels and loss belong together: give both or neither")
    keras.utils.set_random_seed(settings.seed)
    _reset_seed_generators(student, settings.seed)
    progress(0.0, "running the unpruned model once")
    taught = predict(teacher, inputs, settings.batch)
    material = {"inputs": inputs, "taught": taught, "labels": labels or {}}
    samples = sample_count(inputs)
    batch = min(settings.batch, samples)
    optimizer = _optimizer(student, settings, samples // batch * settings.epochs)
    train = _train_step(student, optimizer, Distillation.fit(taught), loss, settings)
    ask_teacher = predictor(teacher) if settings.augment and has_images(inputs) else None
    generator = np.random.default_rng(settings.seed)

    epochs: list[Epoch] = []
    for number in range(settings.epochs):
        began = time.monotonic()
        losses = []
        for index, parts in enumerate(_batches(material, batch, ask_teacher, generator)):
            distil, label = (float(value) for value in train(parts))
            if not (math.isfinite(distil) and math.isfinite(label)):
                raise StageError(
                    f"recovery: the distillation loss became {distil}, the label loss {label},"
                    f" in epoch {number + 1}, step {index + 1}",
                    "Lower [prune] learning_rate, and check the labels and the loss of the adapter.",
                )
            losses.append((distil, label if parts["labels"] else None))
        epochs.append(_epoch(losses, settings, time.monotonic() - began))
        progress((number + 1) / settings.epochs, f"epoch {number + 1}: loss {epochs[-1].total_loss:.4f}")
    if settings.ema:
        optimizer.finalize_variable_values(student.trainable_variables)
    return RecoveryResult(tuple(epochs), time.monotonic() - start, samples)


def _batches(
    material: dict[str, Arrays],
    batch: int,
    ask_teacher: Callable[[Arrays], Arrays] | None,
    generator: np.random.Generator,
) -> Iterator[dict[str, Tensors]]:
    """Yield one epoch of full batches in random order; some are mixed images that only the teacher labels."""
    samples = sample_count(material["inputs"])
    order = generator.permutation(samples)[: samples // batch * batch]
    for chosen in order.reshape(-1, batch):
        parts = {name: {key: array[chosen] for key, array in arrays.items()} for name, arrays in material.items()}
        if ask_teacher is not None and generator.random() < MIXED_SHARE:
            mixed = mix(parts["inputs"], generator)
            parts = {"inputs": mixed, "taught": ask_teacher(mixed), "labels": {}}
        yield {name: as_tensors(arrays) for name, arrays in parts.items()}


def _epoch(losses: list[tuple[float, float | None]], settings: RecoverySettings, seconds: float) -> Epoch:
    distil = float(np.mean([distil for distil, _ in losses]))
    labelled = [label for _, label in losses if label is not None]
    label = float(np.mean(labelled)) if labelled else None
    return Epoch(settings.distil_weight * distil + (label or 0.0), distil, label, seconds)


def _optimizer(student: keras.Model, settings: RecoverySettings, steps: int) -> keras.optimizers.Optimizer:
    """Make AdamW; biases and batch norm do not decay."""
    warmup = max(1, math.ceil(WARMUP * steps))
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=settings.learning_rate / 25,
        decay_steps=max(1, steps - warmup),
        warmup_target=settings.learning_rate,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=WEIGHT_DECAY,
        global_clipnorm=CLIP_NORM,
        use_ema=settings.ema,
        ema_momentum=EMA_MOMENTUM,
    )
    optimizer.exclude_from_weight_decay(
        var_list=[variable for variable in student.trainable_variables if len(variable.shape) < 2]
    )
    optimizer.build(student.trainable_variables)
    return optimizer


def _train_step(
    student: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    distillation: Distillation,
    loss: Loss | None,
    settings: RecoverySettings,
) -> Callable[[dict[str, Tensors]], tuple[tf.Tensor, tf.Tensor]]:
    """Trace one optimizer step; it returns the distillation loss and the label loss."""

    def step(parts: dict[str, Tensors]) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            outputs = call(student, parts["inputs"], training=True)
            distil = distillation(outputs, parts["taught"])
            label = tf.zeros(())
            if loss is not None and parts["labels"]:
                label = tf.cast(loss(outputs, parts["labels"]), tf.float32)
            total = settings.distil_weight * distil + label + _regularization(student)
        variables = student.trainable_variables
        gradients = tape.gradient(total, [variable.value for variable in variables])
        optimizer.apply(
            [
                tf.zeros_like(variable) if gradient is None else gradient
                for gradient, variable in zip(gradients, variables, strict=True)
            ],
            variables,
        )
        return distil, label

    traced: Callable[[dict[str, Tensors]], tuple[tf.Tensor, tf.Tensor]] = tf.function(step)
    return traced


def _regularization(student: keras.Model) -> tf.Tensor:
    return tf.add_n([tf.zeros(()), *student.losses])


def _reset_seed_generators(model: keras.Model, seed: int) -> None:
    """Give dropout the same random stream in every run: its state was drawn when the model was built."""
    for variable in model.variables:
        if variable.name == "seed_generator_state":
            variable.assign(np.array([seed, 0], dtype=variable.dtype))
