"""Give one layer of a cut network the weights that make what it made in the original."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from edgekit.prune.channels.graph import BoolArray
from edgekit.prune.onnx.clipped import Bounds, Rows, Seen, clipped_fit, rows_affordable
from edgekit.prune.onnx.network import Array, Network, Node
from edgekit.prune.onnx.relevance import Weights
from edgekit.prune.onnx.windows import IntArray, Window
from edgekit.prune.repair.linear_fit import ROWS, Matrix, Moments, damped_fit

_ROWS_PER_FEATURE = 96  # a quarter of it lost 0.4 to 0.8 points more on a network of 100,000 parameters
_LEAST_ROWS = 4096
_GROUP = 16  # samples that are looked at in the same positions
_STEP_ROWS = 2**13


class Batch(NamedTuple):
    """Rows of some samples; of a depthwise convolution, ``features`` is (rows, outputs, kernel positions)."""

    features: Rows
    wanted: Rows
    beside: Rows | None
    weights: Rows


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer to repair, in the network that is changed.

    given, target: what it reads and is to make, samples first, of which the first ``known`` are fitted and the
    others judge. bias: the constant that shifts its outputs, "" without one; inside: whether the layer itself
    adds it. kept: which outputs of the original are left. beside: what a shortcut adds to its output, if that is
    known; bounds: what the activation behind lets through, None where nothing is cut off.
    """

    network: Network
    node: Node
    window: Window
    given: Array
    target: Array
    known: int
    bias: str
    inside: bool
    heed: Weights | None
    beside: Array | None
    bounds: Bounds | None

    def fit(self, generator: np.random.Generator) -> None:
        """Give the layer the weights of least error."""
        start = self._start()
        wanted = min(max(_ROWS_PER_FEATURE * len(start), _LEAST_ROWS), ROWS[1])
        fitted, judging = self._parts(wanted, generator)
        depthwise = self.window.depthwise
        moments, step = (_moments_of_each, _STEP_ROWS // 8) if depthwise else (_moments, _STEP_ROWS)
        known, unseen = (moments(_merged(self._batches(part), step), start) for part in (fitted, judging))
        each = np.split(start, len(known), axis=1)
        found = [damped_fit(*three, bool(self.bias)).weights for three in zip(known, unseen, each, strict=True)]
        weights = np.concatenate(found, axis=1)
        affordable = rows_affordable(*weights.shape) if self.bounds and not depthwise else 0
        if self.bounds and affordable:
            if affordable < wanted:
                fitted, judging = self._parts(affordable, generator)
            seen, judges = (_stacked(list(self._batches(part))) for part in (fitted, judging))
            weights = clipped_fit(Seen(*seen), Seen(*judges), weights, self.bounds, bool(self.bias))
        self._assign(weights)

    def shift(self) -> None:
        """Correct the mean of each output through the bias."""
        if not self.bias:
            return
        start = self._start()
        chosen = np.arange(self._places)[:: max(1, len(start) // 256)]
        given, target = self.given[: self.known], self.target[: self.known]
        mean = self.window.rows(given, chosen, target.shape).mean(axis=0)
        made = np.sum(mean.T * start[:-1], axis=0) if self.window.depthwise else mean @ start[:-1]
        start[-1] += self.window.made(target, chosen).mean(axis=0) - (made + start[-1])
        self._assign(start)

    @property
    def _places(self) -> int:
        return self.window.places((1, *self.target.shape[1:]))

    def _parts(self, rows: int, generator: np.random.Generator) -> tuple[list[_Look], list[_Look]]:
        """Draw positions for every few samples, other ones each time: ``rows`` of the known ones in all."""
        count = min(math.ceil(rows / max(self.known, 1)), self._places)
        parts = []
        for first, last in ((0, self.known), (self.known, len(self.given))):
            parts.append([
                _Look(slice(start, min(start + _GROUP, last)), np.sort(generator.permutation(self._places)[:count]))
                for start in range(first, last, _GROUP)
            ])  # fmt: skip
        return parts[0], parts[1]

    def _batches(self, looks: list[_Look]) -> Iterator[Batch]:
        for samples, chosen in looks:
            x = self.window.rows(self.given[samples], chosen, self.target.shape)
            y = self.window.made(self.target[samples], chosen)
            if self.bias:
                x = np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)
            beside = None if self.beside is None else self.window.made(self.beside[samples], chosen)
            weights = np.ones((len(y), 1), np.float32)
            if self.heed is not None:
                weights = self.heed[samples][:, chosen].reshape(-1, 1)
            yield Batch(x, y, beside, weights)

    def _start(self) -> Matrix:
        """Return the (features, outputs) weights as they are; the bias is the last row."""
        flat = self.window.weights(self.network.constants[self.node.inputs[1]])
        if not self.bias:
            return flat
        bias = self.network.constants[self.bias].astype(np.float64)
        return np.concatenate([flat, bias[None] if self.inside else np.zeros_like(bias)[None]])

    def _assign(self, weights: Matrix) -> None:
        constants, name = self.network.constants, self.node.inputs[1]
        kernel = constants[name]
        constants[name] = self.window.stored(weights[:-1] if self.bias else weights, kernel)
        if self.bias:
            before = 0.0 if self.inside else constants[self.bias]
            constants[self.bias] = (before + weights[-1]).astype(kernel.dtype)


class _Look(NamedTuple):
    """Where some samples are looked at: positions in the flattened output."""

    samples: slice
    chosen: IntArray


def at_kept(array: Array, kept: BoolArray | None, window: Window) -> Array:
    """Return what a layer made, at the outputs that are left of it."""
    return array if kept is None else np.compress(kept, array, axis=1 if window.kernel else array.ndim - 1)


def _stacked(batches: list[Batch]) -> Batch:
    features, wanted, beside, weights = zip(*batches, strict=True)
    together = None if beside[0] is None else np.concatenate(beside)
    return Batch(np.concatenate(features), np.concatenate(wanted), together, np.concatenate(weights))


def _merged(batches: Iterator[Batch], rows: int) -> Iterator[Batch]:
    """Join batches until they have so many rows: a sum of moments for every few would take longer than they."""
    waiting: list[Batch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(len(one.wanted) for one in waiting) >= rows:
            yield _stacked(waiting)
            waiting = []
    if waiting:
        yield _stacked(waiting)


def _moments(batches: Iterator[Batch], start: Matrix) -> list[Moments]:
    """Sum the second moments of all rows: one sum, which serves all outputs."""
    moments = Moments.empty(*start.shape)
    for batch in batches:
        root = np.sqrt(batch.weights)
        x: Array = batch.features * root
        y: Array = batch.wanted * root
        moments.add(x.T @ x, x.T @ y, np.sum(y * y, 0), np.sum(y, 0), len(y))
    return [moments]


def _moments_of_each(batches: Iterator[Batch], start: Matrix) -> list[Moments]:
    """Do the same for each output of a depthwise convolution, which reads features of its own."""
    outputs = [Moments.empty(len(start), 1) for _ in range(start.shape[1])]
    for batch in batches:
        root = np.sqrt(batch.weights)
        x, y = batch.features * root[:, :, None], batch.wanted * root
        own, targets = x.transpose(1, 0, 2), y.T[:, :, None]  # (outputs, rows, features) and (outputs, rows, 1)
        gram, cross = own.transpose(0, 2, 1) @ own, own.transpose(0, 2, 1) @ targets
        square, total = np.sum(targets * targets, axis=1), np.sum(targets, axis=1)
        for index, moments in enumerate(outputs):
            moments.add(gram[index], cross[index], square[index], total[index], len(y))
    return outputs
