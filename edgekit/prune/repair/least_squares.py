"""Repair a cut without labels and without training: layer by layer, the weights of least squared error."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edgekit.prune.channels.graph import BoolArray, ChannelGraph, stays
from edgekit.prune.keras.functional import operations, weight_array
from edgekit.prune.keras.signature import Arrays, as_tensors, predict, sample_count
from edgekit.prune.recovery.distillation import Distillation
from edgekit.prune.repair.linear_fit import MOST_FEATURES, Matrix, Moments, damped_fit, rows_wanted
from edgekit.prune.repair.patches import Window, window_of
from edgekit.prune.repair.walk import Parts, call_counts, sole_followers, walk
from edgekit.prune.selection.greedy import Selection


@dataclass(frozen=True)
class RefitSettings:
    """How much to look at: ``samples`` at most, fewer where they would need over ``memory_mb``.

    held: share of the samples that only judge.
    """

    samples: int = 256
    held: float = 0.25
    batch: int = 16
    memory_mb: int = 1024
    seed: int = 0


@dataclass(frozen=True)
class LayerFit:
    """A layer's squared error over the variance of what it should make, on held-apart samples."""

    layer: str
    before: float
    after: float


@dataclass(frozen=True)
class RefitResult:
    """What was kept: ``distances`` are Distillation's per candidate (0 is like the original), held-apart samples."""

    kept: str
    distances: dict[str, float]
    layers: tuple[LayerFit, ...]
    unsolved: tuple[str, ...]
    samples: int
    seconds: float

    def summary(self) -> dict[str, Any]:
        """Return the figures a report needs, as plain JSON values."""
        return {**vars(self), "layers": [vars(layer) for layer in self.layers], "unsolved": list(self.unsolved)}


def refit(
    pruned: keras.Model, original: keras.Model, graph: ChannelGraph, selection: Selection, inputs: Arrays,
    settings: RefitSettings,
) -> RefitResult:  # fmt: skip
    """Change the weights of ``pruned`` in place so that it answers like ``original``, and keep what does.

    In graph order, every convolution and dense layer behind the first cut gets the weights that make, from
    what it is given now, what it made in the original at the channels that are left; the damping towards
    its old weights is chosen per channel. Tried with and without new batch-norm statistics, and those alone:
    the least output distance on held-apart samples wins; where nothing helps, nothing changes.
    Deterministic per seed. Raises ValueError for fewer than two samples.
    """
    start = time.monotonic()
    problem = _Problem.of(pruned, original, graph, selection)
    fitted, held = _split(inputs, problem, settings)
    score = _scorer(original, held, settings.batch)
    weights = [weight for weight in pruned.weights if str(weight.dtype).startswith("float")]
    states, distances = {"unchanged": _state(weights)}, {"unchanged": score(pruned)}
    layers: dict[str, tuple[LayerFit, ...]] = {"unchanged": ()}
    for name, solve, renew in _CANDIDATES:
        _restore(weights, states["unchanged"])
        layers[name] = _repair(problem, fitted, held, settings, solve, renew)
        states[name], distances[name] = _state(weights), score(pruned)
    finite = {name: distance for name, distance in distances.items() if math.isfinite(distance)}
    best = min(finite, key=lambda name: finite[name], default="unchanged")
    _restore(weights, states[best])
    samples = sample_count(fitted) + sample_count(held)
    return RefitResult(best, distances, layers[best], problem.unsolved, samples, time.monotonic() - start)


_CANDIDATES = (
    ("batch-norm statistics", False, True),
    ("least squares", True, False),
    ("least squares and batch-norm statistics", True, True),
)


@dataclass(frozen=True)
class _Problem:
    """The two networks, and the layers to solve with what their kernels see and make."""

    pruned: keras.Model
    original: keras.Model
    windows: dict[str, Window]
    outputs: dict[str, BoolArray]  # of the original's kernel: the channels that are left
    norms: dict[str, str]
    unsolved: tuple[str, ...]

    @staticmethod
    def of(pruned: keras.Model, original: keras.Model, graph: ChannelGraph, selection: Selection) -> _Problem:
        kept = selection.mask(graph)
        cut = {axis.layer for axis in graph.axes if axis.role == "in" and not stays(axis.units, kept).all()}
        found, calls = operations(pruned), call_counts(pruned)
        order = list(found)
        behind = order[min((order.index(key) for key in cut), default=len(order)) :]
        kernels = [key for key in behind if isinstance(found[key], keras.Layer) and len(found[key].weights) > 0]
        once = [key for key in kernels if calls.get(key) == 1]  # layers inside TimeDistributed are not walked
        windows = {key: window for key in once if (window := _solvable(found[key])) is not None}
        outputs = {
            axis.layer: stays(axis.units, kept)
            for axis in graph.axes
            if axis.role == "out" and len(graph.weight_shapes[axis.layer][axis.weight]) > 1
        }
        norms = sole_followers(pruned, keras.layers.BatchNormalization)
        unsolved = [key for key in kernels if key not in windows and key in cut]
        return _Problem(pruned, original, windows, outputs, norms, tuple(unsolved))

    def norm_behind(self, key: str) -> Any | None:
        """Return the batch norm that can take a layer's constant."""
        return operations(self.pruned).get(self.norms.get(key, ""))


def _solvable(layer: Any) -> Window | None:
    """Return how a layer's kernel reads, or None where it is of another kind or too large to solve."""
    window = window_of(layer)
    if window is None or getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        return None
    return window if math.prod(layer.kernel.shape[:-1]) <= MOST_FEATURES else None


def _split(inputs: Arrays, problem: _Problem, settings: RefitSettings) -> tuple[Arrays, Arrays]:
    """Draw the samples to fit and the samples to judge by, as many as memory allows."""
    available = sample_count(inputs)
    if available < 2:
        raise ValueError("least squares needs at least two samples: some to fit, some to judge")
    one = {name: array[:1] for name, array in inputs.items()}
    bytes_each = walk([problem.original, problem.pruned], one, 1, lambda key, layers, given: None)
    affordable = max(32, settings.memory_mb * 2**20 // max(bytes_each, 1))
    order = np.random.default_rng(settings.seed).permutation(available)[: min(settings.samples, affordable)]
    judges = max(1, round(settings.held * len(order)))
    return _take(inputs, order[judges:]), _take(inputs, order[:judges])


def _take(inputs: Arrays, chosen: npt.NDArray[np.int64]) -> Arrays:
    return {name: array[chosen] for name, array in inputs.items()}


def _scorer(original: keras.Model, held: Arrays, batch: int) -> Callable[[keras.Model], float]:
    taught = predict(original, held, batch)
    distance, expected = Distillation.fit(taught), as_tensors(taught)
    return lambda model: float(distance(as_tensors(predict(model, held, batch)), expected))


def _state(weights: Sequence[keras.Variable]) -> list[npt.NDArray[Any]]:
    return [weight_array(weight) for weight in weights]


def _restore(weights: Sequence[keras.Variable], state: list[npt.NDArray[Any]]) -> None:
    for weight, array in zip(weights, state, strict=True):
        weight.assign(array)


def _repair(
    problem: _Problem, fitted: Arrays, held: Arrays, settings: RefitSettings, solve: bool, renew: bool
) -> tuple[LayerFit, ...]:
    """Walk through the networks once and change each layer just before it runs."""
    fits: list[LayerFit] = []
    generator = np.random.default_rng(settings.seed)
    samples = {name: np.concatenate([fitted[name], held[name]]) for name in fitted}
    known = sample_count(fitted)
    layers = operations(problem.pruned)

    def visit(key: str, pair: Sequence[Any], given: Sequence[Parts]) -> None:
        _, layer = pair
        if solve and key in problem.windows:
            fits.append(_solve(problem, key, pair, [tf.concat(parts, 0) for parts in given], known, generator))
        elif renew and isinstance(layer, keras.layers.BatchNormalization) and layers[key] is layer:
            _renew_statistics(layer, tf.concat(given[1], 0)[:known])

    walk([problem.original, problem.pruned], samples, settings.batch, visit)
    return tuple(fits)


def _renew_statistics(norm: Any, given: tf.Tensor) -> None:
    others = [axis for axis in range(len(given.shape)) if axis != norm.axis % len(given.shape)]
    mean, variance = tf.nn.moments(given, others)
    norm.moving_mean.assign(mean)
    norm.moving_variance.assign(variance)


def _solve(
    problem: _Problem, key: str, pair: Sequence[Any], given: Sequence[tf.Tensor], known: int,
    generator: np.random.Generator,
) -> LayerFit:  # fmt: skip
    """Give a layer the weights of least error; each output channel keeps the damping that errs least unseen."""
    teacher, layer = pair
    constant = bool(layer.use_bias) or problem.norm_behind(key) is not None
    start = _weights(layer, constant)
    target = _target(teacher, problem.outputs.get(key))
    window = problem.windows[key]
    parts = [_moments(window, [each[part] for each in given], start, target, constant, generator)
             for part in (slice(0, known), slice(known, None))]  # fmt: skip
    found = damped_fit(parts[0], parts[1], start, constant)
    if found.weights is not start:
        _assign(layer, found.weights, problem.norm_behind(key))
    return LayerFit(key, float(found.before.mean()), float(found.after.mean()))


def _weights(layer: Any, constant: bool) -> Matrix:
    """Return (features, outputs); the constant is the last row."""
    kernel = weight_array(layer.kernel).astype(np.float64)
    flat = kernel.reshape(-1, kernel.shape[-1])
    bias = weight_array(layer.bias).astype(np.float64) if layer.use_bias else np.zeros(flat.shape[1])
    return np.concatenate([flat, bias[None]]) if constant else flat


def _assign(layer: Any, weights: Matrix, norm: Any | None) -> None:
    features = math.prod(layer.kernel.shape[:-1])
    layer.kernel.assign(weights[:features].reshape(layer.kernel.shape))
    if layer.use_bias:
        layer.bias.assign(weights[-1])
    elif norm is not None:
        norm.moving_mean.assign(weight_array(norm.moving_mean) - weights[-1])


def _target(teacher: Any, kept: BoolArray | None) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the original's flattened kernel and its bias, of the channels that are left."""
    kernel = weight_array(teacher.kernel).reshape(-1, teacher.kernel.shape[-1])
    bias = weight_array(teacher.bias) if teacher.use_bias else np.zeros(kernel.shape[1], kernel.dtype)
    chosen: Any = slice(None) if kept is None else kept
    return kernel[:, chosen], bias[chosen]


def _moments(
    window: Window, given: Sequence[tf.Tensor], start: Matrix, target: tuple[Any, Any], constant: bool,
    generator: np.random.Generator,
) -> Moments:  # fmt: skip
    """Sum the second moments over samples, at a bounded number of random positions of each."""
    taught, own = given
    kernel, bias = target
    samples, places = int(own.shape[0]), window.positions(tuple(own.shape))
    count = min(math.ceil(rows_wanted(len(start)) / samples), places)
    chosen = tf.constant(np.sort(generator.permutation(places)[:count]))
    moments = Moments.empty(*start.shape)
    step = max(1, 2**13 // count)
    for first in range(0, samples, step):
        y = window.rows(taught[first : first + step], chosen) @ kernel + bias
        x = window.rows(own[first : first + step], chosen)
        if constant:
            x = tf.concat([x, tf.ones_like(x[:, :1])], axis=1)
        moments.add(
            tf.matmul(x, x, transpose_a=True).numpy(), tf.matmul(x, y, transpose_a=True).numpy(),
            tf.reduce_sum(y * y, 0).numpy(), tf.reduce_sum(y, 0).numpy(), int(y.shape[0]),
        )  # fmt: skip
    return moments
