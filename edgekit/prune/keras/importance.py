"""Score units: how much does the model lose with each of them? One function per method, named in IMPORTANCE.

Every method returns (units,) float64, larger is more important. None needs labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edgekit.errors import StageError
from edgekit.prune.channels.graph import ChannelGraph, stays
from edgekit.prune.keras.functional import as_functional, copy_model, operations, weight_array
from edgekit.prune.keras.signature import (
    Arrays,
    as_tensors,
    batches,
    call,
    output_shapes,
    predict,
    predictor,
    sample_count,
)
from edgekit.prune.recovery.detections import find_detections
from edgekit.prune.recovery.distillation import Distillation
from edgekit.prune.selection.calibration import calibrated, measured_ends

_MEASURED, _LEAST_MEASURED, _MEASURED_BATCH = 2048, 8, 16  # samples that go through the model in all, and each time

Importance = npt.NDArray[np.float64]
Method = Callable[[keras.Model, ChannelGraph, Arrays, int], Importance]


def taylor(
    model: keras.Model, graph: ChannelGraph, inputs: Arrays, seed: int, batches: int = 12, batch: int = 16
) -> Importance:
    """Estimate the squared change of the outputs when a unit is zeroed wherever it is read.

    Mean over batches of (sum over readers of <W[c], dL/dW[c]>)^2, L being a random projection of the outputs,
    each over its own spread; boxes count by the scores beside them. First-order Taylor after Molchanov et
    al., "Importance Estimation for Neural Network Pruning", CVPR 2019, with a label-free loss.
    """
    source = as_functional(model)
    layers = operations(source)
    readers = [axis for axis in graph.axes if axis.role == "in"]
    weights = [layers[axis.layer].weights[axis.weight].value for axis in readers]
    generator = np.random.default_rng(seed)
    order = np.resize(generator.permutation(sample_count(inputs)), batches * batch)
    pairs = find_detections(output_shapes(source))
    spreads = _spreads(predict(source, _take(inputs, np.unique(order)[: 4 * batch]), batch), pairs)
    gradients = _projected_gradients(source, weights, pairs)

    total: Importance = np.zeros(graph.unit_count)
    for chosen in order.reshape(batches, batch):
        directions = {
            name: (generator.standard_normal((batch, *shape)) / spread).astype(np.float32)
            for name, (shape, spread) in spreads.items()
        }
        change: Importance = np.zeros(graph.unit_count)
        found = gradients(as_tensors(_take(inputs, chosen)), as_tensors(directions))
        for axis, weight, gradient in zip(readers, weights, found, strict=True):
            others = tuple(other for other in range(len(weight.shape)) if other != axis.axis)
            along = np.asarray(np.sum(weight.numpy() * gradient.numpy(), axis=others, dtype=np.float64))
            inside = axis.units >= 0
            np.add.at(change, axis.units[inside], along[inside])
        total += change**2
    if not np.all(np.isfinite(total)):
        raise StageError(
            "the Taylor importance is not finite: outputs or gradients overflow on the given inputs",
            "Check the preprocessing, or choose another importance (l2, bn).",
        )
    return np.asarray(total / batches)


def measured(model: keras.Model, graph: ChannelGraph, inputs: Arrays, seed: int) -> Importance:
    """Rank the units of each block by ``taylor``, and blocks by what they are measured to cost at the outputs.

    A quarter, half and three quarters of every block go, one block at a time; the cost is the squared distance of the
    outputs, in the terms of recovery (``Distillation``). ``taylor`` alone took half of the channels in front of a
    detector's boxes for 16 times less important than half of those in front of its scores: they cost 12 and 2 points.
    """
    estimated = taylor(model, graph, inputs, seed)
    found = np.zeros(graph.unit_count)
    samples = min(sample_count(inputs), max(_LEAST_MEASURED, _MEASURED // max(1, 3 * len(graph.blocks))))
    without = _WithoutUnits(model, graph, _take(inputs, np.linspace(0, sample_count(inputs) - 1, samples).astype(int)))
    for block in graph.blocks:
        units = np.array(sorted(block.units, key=lambda unit: (float(estimated[unit]), unit)))
        ends = measured_ends(len(units))
        costs = [without.cost(units[:end]) for end in ends]
        found[units] = calibrated(estimated[units], ends, costs)
    return found


class _WithoutUnits:
    """A copy of a model that answers without some of its units, nothing else changed."""

    def __init__(self, model: keras.Model, graph: ChannelGraph, inputs: Arrays) -> None:
        copied = copy_model(as_functional(model))
        layers = operations(copied)
        self._readers = [(axis, layers[axis.layer].weights[axis.weight]) for axis in graph.axes if axis.role == "in"]
        self._forward, self._inputs, self._units = predictor(copied), inputs, graph.unit_count
        expected = self._answers()
        self._distances, self._expected = Distillation.fit(expected).distances, as_tensors(expected)

    def cost(self, gone: npt.NDArray[np.int64]) -> float:
        """Return the squared distances of the outputs from the whole model's, summed; a constant output has about 1.

        Squared, because a detector's points are: small errors cost nearly nothing (``benchmarks``).
        """
        kept = np.ones(self._units, np.bool_)
        kept[gone] = False
        reading = [(axis, weight) for axis, weight in self._readers if not stays(axis.units, kept).all()]
        whole = [weight_array(weight) for _, weight in reading]
        for axis, weight in reading:
            shape = [1] * len(weight.shape)
            shape[axis.axis] = -1
            weight.assign(weight_array(weight) * stays(axis.units, kept).reshape(shape))
        found = self._answers()
        for (_, weight), array in zip(reading, whole, strict=True):
            weight.assign(array)
        tensors = as_tensors(found)
        return float(sum(float(distance(tensors, self._expected)) ** 2 for distance in self._distances))

    def _answers(self) -> Arrays:
        parts = [self._forward(part) for part in batches(self._inputs, _MEASURED_BATCH)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def l2(model: keras.Model, graph: ChannelGraph, inputs: Arrays, seed: int) -> Importance:
    """Sum the Euclidean norms of the weights that produce each unit; inputs and seed are not used."""
    layers = operations(as_functional(model))
    total = np.zeros(graph.unit_count)
    for axis in graph.axes:
        if axis.role == "out":
            array = weight_array(layers[axis.layer].weights[axis.weight]).astype(np.float64)
            others = tuple(other for other in range(array.ndim) if other != axis.axis)
            inside = axis.units >= 0
            np.add.at(total, axis.units[inside], np.sqrt(np.sum(array**2, axis=others))[inside])
    return total


def bn(model: keras.Model, graph: ChannelGraph, inputs: Arrays, seed: int) -> Importance:
    """Take the mean magnitude of batch-norm gamma; units without batch norm get the mean of all others.

    Inputs and seed are not used. Raises StageError where the model has no batch norm to rank by.
    """
    layers = operations(as_functional(model))
    total, count = np.zeros(graph.unit_count), np.zeros(graph.unit_count)
    for axis in graph.axes:
        if axis.role == "scale":
            gamma = np.abs(weight_array(layers[axis.layer].weights[axis.weight]))
            inside = axis.units >= 0
            np.add.at(total, axis.units[inside], gamma[inside].astype(np.float64))
            np.add.at(count, axis.units[inside], 1.0)
    ranked = count > 0
    if graph.unit_count and not ranked.any():
        raise StageError("importance 'bn' needs batch normalization; this model has none", "Use 'taylor' or 'l2'.")
    total[ranked] /= count[ranked]
    total[~ranked] = total[ranked].mean() if ranked.any() else 0.0
    return total


def random(model: keras.Model, graph: ChannelGraph, inputs: Arrays, seed: int) -> Importance:
    """Draw the order from the seed: the control every other method has to beat."""
    return np.random.default_rng(seed).random(size=graph.unit_count)


IMPORTANCE: dict[str, Method] = {"taylor": taylor, "measured": measured, "l2": l2, "bn": bn, "random": random}


def _take(arrays: Arrays, chosen: npt.NDArray[np.int64]) -> Arrays:
    return {name: array[chosen] for name, array in arrays.items()}


def _spreads(outputs: Arrays, pairs: dict[str, str]) -> dict[str, tuple[tuple[int, ...], float]]:
    """Return shape and scale per floating output, so that every output weighs the same in the projection."""
    spreads = {}
    for name, array in outputs.items():
        if not np.issubdtype(array.dtype, np.floating):
            continue
        values = array.astype(np.float64)
        if name in pairs:  # the spread of a box is that around the mean box of its own row (a grid cell)
            deviation = (values - values.mean(axis=0)) * outputs[pairs[name]].max(axis=-1, keepdims=True)
        else:
            deviation = values - values.mean(axis=tuple(range(values.ndim - 1)))
        size = float(np.sqrt(np.mean(deviation**2))) * float(np.sqrt(values[0].size))
        if size > 0.0:
            spreads[name] = (values.shape[1:], size)
    if not spreads:
        raise StageError(
            "the model's outputs do not change over the given inputs, so nothing can be ranked",
            "Give varied sample inputs, and check their preprocessing.",
        )
    return spreads


def _projected_gradients(
    model: keras.Model, weights: list[tf.Variable], pairs: dict[str, str]
) -> Callable[[dict[str, tf.Tensor], dict[str, tf.Tensor]], list[tf.Tensor]]:
    """Trace the gradient of a projection of the outputs with respect to the reading weights."""

    def compute(samples: dict[str, tf.Tensor], directions: dict[str, tf.Tensor]) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            for weight in weights:
                tape.watch(weight)
            outputs = call(model, samples)
            projected = tf.zeros(())
            for name, direction in directions.items():
                if name in pairs:
                    direction *= tf.stop_gradient(tf.reduce_max(outputs[pairs[name]], axis=-1, keepdims=True))
                projected += tf.reduce_sum(direction * tf.cast(outputs[name], tf.float32))
        return tape.gradient(projected, weights, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    traced: Callable[[dict[str, tf.Tensor], dict[str, tf.Tensor]], list[tf.Tensor]] = tf.function(compute)
    return traced
