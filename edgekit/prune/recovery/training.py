"""Train a pruned model back: distillation from the unpruned one, plus the task's loss where labels exist."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edgekit.errors import StageError
from edgekit.progress import Progress
from edgekit.prune.keras.functional import weight_array
from edgekit.prune.keras.signature import as_tensors, predict, predictor, sample_count
from edgekit.prune.recovery.augmentation import has_images
from edgekit.prune.recovery.batches import Batches, Lesson, ahead
from edgekit.prune.recovery.checkpoint import Checkpoint
from edgekit.prune.recovery.distillation import Distillation
from edgekit.prune.recovery.features import Hint, Watched
from edgekit.prune.recovery.losses.teaching import Loss, Tensors

WEIGHT_DECAY = 1e-4
CLIP_NORM = 10.0
WARMUP = 0.1  # share of all steps in which the learning rate rises linearly
EMA_MOMENTUM = 0.99
_JUDGED = 32  # samples at once


@dataclass(frozen=True)
class RecoverySettings:
    """How long and how hard to train.

    mixed_share: of the steps, that see shifted, mixed and relit images, labelled by the unpruned model alone.
    moved_share: of the others, where labels can move with the images. symmetric: these are mirrored too.
    patience: epochs without a better one on the held samples before training ends; 0 never ends early.
    """

    epochs: int = 12
    batch: int = 8  # many small steps: the cut left good features, and time is what is short
    learning_rate: float = 1.5e-3
    distil_weight: float = 10.0  # the distance is about 1 for a constant student and 0.2 at the end
    feature_weight: float = 0.0
    seed: int = 0
    ema: bool = False
    mixed_share: float = 0.5
    moved_share: float = 0.0
    symmetric: bool = False
    patience: int = 0


@dataclass(frozen=True)
class Epoch:
    """Mean losses of one epoch; ``label_loss`` is None without labels, ``held_loss`` without held samples."""

    total_loss: float
    distil_loss: float
    label_loss: float | None
    held_loss: float | None
    seconds: float


@dataclass(frozen=True)
class RecoveryResult:
    """What happened: ``seconds`` of all epochs, also before a kill; ``best_epoch`` (from 1) is the result."""

    epochs: tuple[Epoch, ...]
    best_epoch: int
    seconds: float
    samples: int


def recover(
    student: keras.Model,
    teacher: keras.Model,
    lesson: Lesson,
    loss: Loss | None,
    settings: RecoverySettings,
    progress: Progress,
    *,
    held: Lesson | None = None,
    hints: Sequence[Hint] = (),
    checkpoint: Path | None = None,
    after_step: Callable[[], None] | None = None,
) -> RecoveryResult:
    """Train ``student`` in place on loss(outputs, labels) + distil_weight x distance from the teacher's outputs
    + feature_weight x distance from its features at ``hints``.

    AdamW with a short warm-up and one cosine to zero. With ``held`` samples the epoch with the least loss on
    them is the result, else the last; with ``settings.ema`` that of the weights' moving average. A training
    that was killed goes on from ``checkpoint`` and ends with the same bits, where the caller enabled
    TensorFlow's op determinism. ``after_step`` runs after each step (it may put weights back to zero).
    Raises StageError on a non-finite loss.
    """
    if (lesson.truth is None) != (loss is None):
        raise ValueError("labels and loss belong together: give both or neither")
    keras.utils.set_random_seed(settings.seed)
    _reset_seed_generators(student, settings.seed)
    training = _Training(student, teacher, lesson, loss, settings, held, hints, after_step)
    return training.run(Checkpoint(checkpoint), progress)


class _Training:
    """One recovery: the loop over epochs and everything that has to survive a kill."""

    def __init__(
        self, student: keras.Model, teacher: keras.Model, lesson: Lesson, loss: Loss | None,
        settings: RecoverySettings, held: Lesson | None, hints: Sequence[Hint], after_step: Callable[[], None] | None,
    ) -> None:  # fmt: skip
        self.student, self.teacher, self.lesson, self.settings = student, teacher, lesson, settings
        self.samples = sample_count(lesson.inputs)
        self.batch = min(settings.batch, self.samples)
        self.optimizer = _optimizer(student, settings, self.samples // self.batch * settings.epochs)
        self.generator = np.random.default_rng(settings.seed)
        self.average = [keras.Variable(weight, trainable=False) for weight in student.weights] if settings.ema else []
        self.best = [keras.Variable(weight, trainable=False) for weight in student.weights] if held else []
        self.held, self.loss, self.after_step = held, loss, after_step
        self.watched = Watched(student, teacher, hints if settings.feature_weight else (), lesson.inputs)
        self.epochs: list[Epoch] = []

    def run(self, checkpoint: Checkpoint, progress: Progress) -> RecoveryResult:
        progress(0.0, "running the unpruned model once")
        taught = predict(self.teacher, self.lesson.inputs, self.settings.batch)
        distillation = Distillation.fit(taught)
        train = self._train_step(distillation)
        judge = self._judge(distillation)
        settings = self.settings
        mixed_share = settings.mixed_share if has_images(self.lesson.inputs) else 0.0
        batches = Batches(
            self.lesson, None if self.watched.hints else taught, self.batch, self.watched.ask, mixed_share,
            settings.moved_share, settings.symmetric,
        )  # fmt: skip

        groups = {
            "student": self.student.variables, "optimizer": self.optimizer.variables, "average": self.average,
            "best": self.best,
        }  # fmt: skip
        self._take_up(checkpoint.load(groups))
        while len(self.epochs) < self.settings.epochs and not self._stalled():
            self.epochs.append(self._epoch(train, judge, batches))
            if self.best and self.best_epoch() == len(self.epochs):
                _assign(self.best, self._result())
            checkpoint.save(groups, {"epochs": [vars(epoch) for epoch in self.epochs],
                                     "generator": self.generator.bit_generator.state})  # fmt: skip
            done = len(self.epochs)
            progress(done / self.settings.epochs, f"epoch {done}: loss {self.epochs[-1].total_loss:.4f}{self._left()}")
        _assign(self.student.weights, self.best or self._result())
        progress(1.0, "trained")
        seconds = sum(epoch.seconds for epoch in self.epochs)
        return RecoveryResult(tuple(self.epochs), self.best_epoch(), seconds, self.samples)

    def best_epoch(self) -> int:
        """Return the epoch (from 1) that was best on the held samples, of equals the later; else the last."""
        losses = [epoch.held_loss for epoch in self.epochs]
        known = [(loss, -number) for number, loss in enumerate(losses, 1) if loss is not None]
        return -min(known)[1] if known else len(self.epochs)

    def _take_up(self, state: dict[str, Any] | None) -> None:
        if state is not None:
            self.epochs = [Epoch(**epoch) for epoch in state["epochs"]]
            self.generator.bit_generator.state = state["generator"]

    def _stalled(self) -> bool:
        patience = self.settings.patience
        return bool(patience and self.best and len(self.epochs) - self.best_epoch() >= patience)

    def _left(self) -> str:
        minutes = float(np.median([epoch.seconds for epoch in self.epochs])) / 60
        left = minutes * (self.settings.epochs - len(self.epochs))
        return f", about {left:.0f} min left" if left >= 1 else ""

    def _result(self) -> Sequence[keras.Variable]:
        """Return the weights that count: their average where one is kept."""
        return self.average or self.student.weights

    def _epoch(self, train: Any, judge: Callable[[], float] | None, batches: Batches) -> Epoch:
        began, losses = time.monotonic(), []
        for index, parts in enumerate(ahead(batches.epoch(self.generator))):
            tensors = {name: as_tensors(arrays) for name, arrays in parts.items()}
            distil, label = (float(value) for value in train(tensors))
            if not (math.isfinite(distil) and math.isfinite(label)):
                raise StageError(
                    f"recovery: the distillation loss became {distil}, the label loss {label},"
                    f" in epoch {len(self.epochs) + 1}, step {index + 1}",
                    "Lower [prune] learning_rate, and check the labels and the loss of the adapter.",
                )
            if self.after_step:
                self.after_step()
            losses.append((distil, label if parts["labels"] else None))
        distil_loss = float(np.mean([distil for distil, _ in losses]))
        labelled = [label for _, label in losses if label is not None]
        label_loss = float(np.mean(labelled)) if labelled else None
        total = self.settings.distil_weight * distil_loss + (label_loss or 0.0)
        return Epoch(total, distil_loss, label_loss, judge() if judge else None, time.monotonic() - began)

    def _train_step(self, distillation: Distillation) -> Callable[[dict[str, Tensors]], tuple[tf.Tensor, tf.Tensor]]:
        """Trace one optimizer step, which moves the average too; it returns the distillation and the label loss."""
        student, settings, loss = self.student, self.settings, self.loss

        def step(parts: dict[str, Tensors]) -> tuple[tf.Tensor, tf.Tensor]:
            with tf.GradientTape() as tape:
                outputs, features = self.watched(parts["inputs"], parts["taught"])
                distil = distillation(outputs, parts["taught"])
                label = tf.zeros(())
                if loss is not None and parts["labels"]:
                    label = tf.cast(loss(outputs, parts["labels"]), tf.float32)
                total = settings.distil_weight * distil + settings.feature_weight * features
                total += label + _regularization(student)
            variables = student.trainable_variables
            gradients = tape.gradient(total, [variable.value for variable in variables])
            self.optimizer.apply(
                [
                    tf.zeros_like(variable) if gradient is None else gradient
                    for gradient, variable in zip(gradients, variables, strict=True)
                ],
                variables,
            )
            for mean, weight in zip(self.average, student.weights, strict=bool(self.average)):
                mean.assign(EMA_MOMENTUM * mean + (1.0 - EMA_MOMENTUM) * weight)
            return distil, label

        traced: Callable[[dict[str, Tensors]], tuple[tf.Tensor, tf.Tensor]] = tf.function(step)
        return traced

    def _judge(self, distillation: Distillation) -> Callable[[], float] | None:
        """Return a function that tells the loss of the weights that count, on the held samples."""
        if self.held is None:
            return None
        held, loss = self.held, self.loss
        taught = predict(self.teacher, held.inputs, self.settings.batch)
        forward = predictor(self.student)

        def held_loss() -> float:
            """Weigh batches by their samples; the student carries the average only while it is judged."""
            own = [weight_array(weight) for weight in self.student.weights] if self.average else []
            _assign(self.student.weights, self.average)
            total = 0.0
            for chosen in np.array_split(np.arange(sample_count(held.inputs)), self._held_batches()):
                part, known = held.part(chosen), {name: array[chosen] for name, array in taught.items()}
                outputs = as_tensors(forward(part.inputs))
                value = self.settings.distil_weight * float(distillation(outputs, as_tensors(known)))
                if loss is not None and (labels := part.labels) is not None:
                    value += float(loss(outputs, as_tensors(labels)))
                total += value * len(chosen)
            _assign(self.student.weights, own)
            return total / sample_count(held.inputs)

        return held_loss

    def _held_batches(self) -> int:
        return -(-sample_count(self.held.inputs) // _JUDGED) if self.held else 0


def _assign(variables: Sequence[keras.Variable], values: Sequence[Any]) -> None:
    """Copy values into as many variables; none leave them as they are."""
    for variable, value in zip(variables, values, strict=bool(values)):
        variable.assign(value)


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
    )
    optimizer.exclude_from_weight_decay(
        var_list=[variable for variable in student.trainable_variables if len(variable.shape) < 2]
    )
    optimizer.build(student.trainable_variables)
    return optimizer


def _regularization(student: keras.Model) -> tf.Tensor:
    return tf.add_n([tf.zeros(()), *student.losses])


def _reset_seed_generators(model: keras.Model, seed: int) -> None:
    """Give dropout the same random stream in every run: its state was drawn when the model was built."""
    for variable in model.variables:
        if variable.name == "seed_generator_state":
            variable.assign(np.array([seed, 0], dtype=variable.dtype))
