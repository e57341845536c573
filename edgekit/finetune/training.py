"""Train a network whose forward pass rounds as int8 does, towards the answers it gives in float."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edgekit.errors import StageError
from edgekit.finetune.distance import Distance
from edgekit.finetune.fake_quant import kernels, rounded_activation, rounded_kernel, rounded_values
from edgekit.finetune.program import OnValue, Program, trace
from edgekit.progress import Progress
from edgekit.prune.keras.signature import (
    Arrays,
    as_tensors,
    batches,
    fixed_predictor,
    input_names,
    output_names,
    predict,
)
from edgekit.prune.recovery.augmentation import has_images, mix

Tensors = dict[str, tf.Tensor]

MIXED_SHARE = 0.5  # of the steps
CLIP_NORM = 1.0
PATIENCE = 6  # epochs without a better one
SMALLER = (1.0, 0.1, 0.01)  # of the learning rate


@dataclass(frozen=True)
class Settings:
    """How long and how hard to train. ``left_float``: names of layers that no int8 plan rounds."""

    epochs: int
    batch: int = 16
    learning_rate: float = 1e-3
    seed: int = 0
    left_float: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Trained:
    """Distances of the rounded network from the float one on the watched samples, 0 for equal answers.

    ``best_epoch`` 0: no epoch was better than the network as it came, which is then unchanged.
    """

    before: float
    epochs: tuple[float, ...]
    best_epoch: int

    @property
    def after(self) -> float:
        return self.epochs[self.best_epoch - 1] if self.best_epoch else self.before


class RoundedNetwork:
    """A network run as int8 would run it. Training changes the network's own weights.

    ``bounds``: (points, 2) smallest and largest value of each tensor that is rounded, in float on ``inputs``.
    """

    def __init__(self, network: keras.Model, inputs: Arrays, batch: int, left_float: Collection[str] = ()) -> None:
        self.network, self.inputs, self.batch = network, inputs, batch
        self.program = trace(network)
        self.kernels = list(kernels(network, self.program, left_float))
        self.points = {value: place for place, value in enumerate(rounded_values(self.program, left_float))}
        self.bounds = tf.Variable(np.zeros((len(self.points), 2), np.float32), trainable=False)
        self._extremes = tf.function(self._extremes_of, reduce_retracing=True)
        if not self.calibrate():
            raise StageError(
                "The float model gives NaN or infinity inside on a calibration sample.", "Check [preprocess]."
            )

    def __call__(self, inputs: Tensors) -> Tensors:
        """Return the outputs by name."""

        def on_value(number: int, tensor: tf.Tensor) -> tf.Tensor:
            if number not in self.points:
                return tensor
            place = self.points[number]
            return rounded_activation(tensor, self.bounds[place, 0], self.bounds[place, 1])

        mapping = [(kernel, rounded_kernel(kernel.value, axes)) for kernel, axes in self.kernels]
        with keras.StatelessScope(state_mapping=mapping):
            return run_program(self.program, self.network, inputs, on_value)

    def calibrate(self) -> bool:
        """Measure the ranges anew, for the weights as they are: what calibration of the file will find.

        Returns False, and leaves them, where a value is not finite.
        """
        if not self.points:
            return True
        parts = [self._extremes(as_tensors(part)).numpy() for part in batches(self.inputs, self.batch)]
        extremes = np.stack(parts)
        finite = bool(np.isfinite(extremes).all())
        if finite:
            self.bounds.assign(np.stack([extremes[:, :, 0].min(axis=0), extremes[:, :, 1].max(axis=0)], axis=1))
        return finite

    def state(self) -> list[npt.NDArray[Any]]:
        """Return copies of the weights that training changes."""
        return [np.array(variable.value.numpy()) for variable in self.network.trainable_variables]

    def restore(self, state: list[npt.NDArray[Any]]) -> None:
        for variable, value in zip(self.network.trainable_variables, state, strict=True):
            variable.assign(value)
        self.calibrate()

    def _extremes_of(self, inputs: Tensors) -> tf.Tensor:
        seen: dict[int, tf.Tensor] = {}

        def on_value(number: int, tensor: tf.Tensor) -> tf.Tensor:
            if number in self.points:
                seen[self.points[number]] = tf.stack([tf.reduce_min(tensor), tf.reduce_max(tensor)])
            return tensor

        run_program(self.program, self.network, inputs, on_value)
        return tf.stack([seen[place] for place in range(len(self.points))])


def run_program(program: Program, network: keras.Model, inputs: Tensors, on_value: OnValue) -> Tensors:
    """Run a network's program on inputs by name; returns outputs by name."""
    made = program.run([inputs[name] for name in input_names(network)], on_value)
    return dict(zip(output_names(network), made, strict=True))


def train(
    student: keras.Model, teacher: keras.Model, inputs: Arrays, watched: Arrays, settings: Settings, progress: Progress
) -> Trained:
    """Train ``student`` in place, and leave it as it was in its best epoch on the ``watched`` samples.

    ``student`` and ``teacher`` are two copies of one network. Half of the steps see mixed images; what is in them
    only the teacher says. A learning rate that helps in none of its epochs, or diverges, is tried again smaller: near
    the optimum Adam's steps are noise. Raises StageError where the float network itself is not finite.
    """
    progress(0.0, "running the float model once")
    student.trainable = True  # layers that were frozen for training have to make room for int8, too
    keras.utils.set_random_seed(settings.seed)
    course = _Course(student, teacher, inputs, watched, settings)
    before = course.watch()
    epochs: list[float] = []
    for number, rate in enumerate(settings.learning_rate * factor for factor in SMALLER):
        first = len(epochs)
        for epoch, found in enumerate(course.epochs(rate), start=1):
            epochs.append(found)
            done = (number + epoch / settings.epochs) / len(SMALLER)
            progress(done, f"epoch {len(epochs)}: distance {found:.4f}, at first {before:.4f}")
        best = min(epochs[first:])
        if best < before:
            return Trained(before, tuple(epochs), 1 + epochs.index(best, first))
    return Trained(before, tuple(epochs), 0)


class _Course:
    """What is learned from, and how it is measured."""

    def __init__(
        self, student: keras.Model, teacher: keras.Model, inputs: Arrays, watched: Arrays, settings: Settings
    ) -> None:
        self.inputs, self.settings = inputs, settings
        self.taught = predict(teacher, inputs, settings.batch)
        self.ask_teacher = fixed_predictor(teacher) if has_images(inputs) else None
        self.count = len(next(iter(inputs.values())))
        self.batch = min(settings.batch, self.count)
        self.distance = Distance.fit(self.taught)
        self.rounded = RoundedNetwork(student, inputs, self.batch, settings.left_float)
        self.watch = _watcher(self.rounded, self.distance, watched, predict(teacher, watched, self.batch), self.batch)

    def epochs(self, learning_rate: float) -> Iterator[float]:
        """Train from the weights as they are; yield the watched distance of each epoch, leave the best weights.

        Ends after ``PATIENCE`` epochs without a better one.
        """
        best, best_epoch, kept = self.watch(), 0, self.rounded.state()
        steps = self.count // self.batch * self.settings.epochs
        step = _train_step(self.rounded, self.distance, learning_rate, steps)
        generator = np.random.default_rng(self.settings.seed)
        for number in range(1, self.settings.epochs + 1):
            for given, answers in self._batches(generator):
                step(as_tensors(given), as_tensors(answers))
            found = self.watch() if self.rounded.calibrate() else math.inf
            if found < best:
                best, best_epoch, kept = found, number, self.rounded.state()
            yield found
            if number - best_epoch >= PATIENCE or not math.isfinite(found):
                break
        self.rounded.restore(kept)

    def _batches(self, generator: np.random.Generator) -> Iterator[tuple[Arrays, Arrays]]:
        """Yield one epoch of full batches in random order with the float answers."""
        order = generator.permutation(self.count)[: self.count // self.batch * self.batch]
        for chosen in order.reshape(-1, self.batch):
            given = {name: array[chosen] for name, array in self.inputs.items()}
            if self.ask_teacher is not None and generator.random() < MIXED_SHARE:
                mixed = mix(given, generator)
                yield mixed, self.ask_teacher(mixed)
            else:
                yield given, {name: array[chosen] for name, array in self.taught.items()}


def _watcher(
    rounded: RoundedNetwork, distance: Distance, watched: Arrays, expected: Arrays, batch: int
) -> Callable[[], float]:
    """Return a function that measures the distance on the watched samples, weighted by the size of each batch."""
    of_batch = tf.function(lambda inputs, answers: distance(rounded(inputs), answers), reduce_retracing=True)

    def measure() -> float:
        total, count = 0.0, 0
        for given, answers in zip(batches(watched, batch), batches(expected, batch), strict=True):
            size = len(next(iter(given.values())))
            total += size * float(of_batch(as_tensors(given), as_tensors(answers)))
            count += size
        return total / count

    return measure


def _train_step(
    rounded: RoundedNetwork, distance: Distance, learning_rate: float, steps: int
) -> Callable[[Tensors, Tensors], tf.Tensor]:
    """Trace one step of Adam on a cosine to zero; it returns the distance before the step."""
    variables = rounded.network.trainable_variables
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, max(1, steps))
    optimizer = keras.optimizers.Adam(schedule, global_clipnorm=CLIP_NORM)
    optimizer.build(variables)

    def step(inputs: Tensors, answers: Tensors) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = distance(rounded(inputs), answers)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        pairs = zip(gradients, variables, strict=True)
        optimizer.apply(
            [tf.zeros_like(variable) if gradient is None else gradient for gradient, variable in pairs], variables
        )
        return loss

    traced: Callable[[Tensors, Tensors], tf.Tensor] = tf.function(step)
    return traced
