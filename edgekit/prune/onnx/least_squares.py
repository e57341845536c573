"""Repair a cut ONNX network without training: layer by layer, the weights of least squared error."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.prune.channel_graph import BoolArray, ChannelGraph, stays
from edgekit.prune.linear_fit import MOST_FEATURES, Matrix, Moments, damped_fit, rows_wanted
from edgekit.prune.onnx.execute import Arrays, answers, distance
from edgekit.prune.onnx.network import Array, Network, Node, read, runnable, written
from edgekit.prune.onnx.relevance import Relevance, Weights
from edgekit.prune.onnx.walk import Values, bytes_each, walk
from edgekit.prune.onnx.windows import Window, window_of
from edgekit.prune.selection import Selection

_STEP_ROWS = 2**13


@dataclass(frozen=True)
class RefitSettings:
    """How much to look at: ``samples`` at most, fewer where they would need over ``memory_mb``.

    held: share of the samples that only judge.
    """

    samples: int = 1024
    held: float = 0.25
    memory_mb: int = 1024
    seed: int = 0


@dataclass(frozen=True)
class RefitResult:
    """The network that is nearest to the original, and how near each candidate came (0 is like it), unseen samples.

    kept: the candidate's name. unsolved: layers behind a cut that could not be fitted.
    """

    content: bytes
    kept: str
    distances: dict[str, float]
    unsolved: tuple[str, ...]
    samples: int
    seconds: float


def refit(
    cut: bytes, original: Network, graph: ChannelGraph, selection: Selection, inputs: Arrays, settings: RefitSettings
) -> RefitResult:
    """Return ``cut`` with the weights that answer most like ``original``.

    In graph order, every convolution and matrix product behind the first cut gets the weights that make, from
    what it is given now, what it made in the original at the channels that are left; behind a sum with a shortcut
    that came before, what makes the sum right. Tried beside it: new means alone. The least output distance on
    held-apart samples wins; where nothing helps, nothing changes. Deterministic per seed. Raises ValueError for
    fewer than two samples.
    """
    began = time.monotonic()
    fitted, held = _split(inputs, original, settings)
    expected = answers(written(original.proto, original.constants), held)
    problem = _Problem.of(original, graph, selection)
    found = {"unchanged": cut}
    for name, kernels in (("output means", False), ("least squares", True)):
        found[name] = _repaired(problem, cut, fitted, held, settings, kernels)
    distances = {name: distance(expected, answers(content, held)) for name, content in found.items()}
    best = min((name for name in found if math.isfinite(distances[name])), key=lambda name: distances[name])
    count = len(next(iter(fitted.values()))) + len(next(iter(held.values())))
    return RefitResult(found[best], best, distances, problem.unsolved, count, time.monotonic() - began)


@dataclass(frozen=True)
class _Problem:
    """The layers to solve, the channels of the original's outputs that are left, and the sums they end in."""

    original: Network
    windows: dict[str, Window]
    outputs: dict[str, BoolArray]
    shortcuts: dict[str, str]  # by node: the tensor that its output is added to
    added: dict[str, tuple[str, int]]  # by node: the Add behind it whose constant is its bias, and which input that is
    unsolved: tuple[str, ...]

    @staticmethod
    def of(original: Network, graph: ChannelGraph, selection: Selection) -> _Problem:
        kept = selection.mask(graph)
        cut = {axis.layer for axis in graph.axes if axis.role == "in" and not stays(axis.units, kept).all()}
        names = [node.name for node in original.nodes]
        first = min((names.index(name) for name in cut), default=len(names))
        windows = {}
        for node in original.nodes[first:]:
            window = window_of(original, node)
            shared = window is not None and original.owners[node.inputs[1]][0] != node.name
            if window is not None and not shared and _features(original, node, window) <= MOST_FEATURES:
                windows[node.name] = window
        for node in original.nodes:  # a kernel with two readers fits neither
            if len(node.inputs) > 1 and original.owners.get(node.inputs[1], ("",))[0] not in ("", node.name):
                windows.pop(original.owners[node.inputs[1]][0], None)
        outputs = {
            axis.layer: stays(axis.units, kept)
            for axis in graph.axes
            if axis.weight == 1 and (axis.role == "out" or (axis.axis == 0 and _is_depthwise(windows, axis.layer)))
        }
        shortcuts, added = sums(original)
        return _Problem(original, windows, outputs, shortcuts, added, tuple(sorted(cut - set(windows))))


def _is_depthwise(windows: dict[str, Window], layer: str) -> bool:
    return layer in windows and windows[layer].depthwise


def _features(network: Network, node: Node, window: Window) -> int:
    return len(window.weights(network.constants[node.inputs[1]]))


def sums(network: Network) -> tuple[dict[str, str], dict[str, tuple[str, int]]]:
    """Return for nodes whose output one Add alone reads: the tensor it is added to, or that Add and its constant."""
    readers: dict[str, list[Node]] = {}
    for node in network.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    shortcuts, added = {}, {}
    for node in network.nodes:
        made, reading = node.outputs[0], readers.get(node.outputs[0], [])
        if len(reading) != 1 or reading[0].op != "Add" or made in network.outputs:
            continue
        index = 1 - reading[0].inputs.index(made)
        other = reading[0].inputs[index]
        if other in network.constants:
            columns = node.op == "MatMul" and node.inputs[1] in network.constants
            if columns and network.constants[other].ndim == 1 and network.constants[other].size > 1:
                added[node.name] = (reading[0].name, index)
        elif network.shapes.get(other) == network.shapes.get(made):
            shortcuts[node.name] = other
    return shortcuts, added


def _split(inputs: Arrays, original: Network, settings: RefitSettings) -> tuple[Arrays, Arrays]:
    """Draw the samples to fit and the samples to judge by, as many as memory allows."""
    available = len(next(iter(inputs.values())))
    if available < 2:
        raise ValueError("least squares needs at least two samples: some to fit, some to judge")
    affordable = max(32, settings.memory_mb * 2**20 // max(2 * bytes_each(original), 1))
    order = np.random.default_rng(settings.seed).permutation(available)[: min(settings.samples, affordable)]
    judges = max(1, round(settings.held * len(order)))
    return (
        {name: array[order[judges:]] for name, array in inputs.items()},
        {name: array[order[:judges]] for name, array in inputs.items()},
    )


def _repaired(
    problem: _Problem, cut: bytes, fitted: Arrays, held: Arrays, settings: RefitSettings, kernels: bool
) -> bytes:
    """Walk through both networks once, changing each layer of the cut one just before it runs."""
    network = read(cut)
    nodes = {node.name: node for node in network.nodes}
    samples = {name: np.concatenate([fitted[name], held[name]]) for name in fitted}
    known = len(next(iter(fitted.values())))
    generator = np.random.default_rng(settings.seed)
    answered = answers(runnable(problem.original.proto, problem.original.constants), samples)
    relevance = Relevance.of(problem.original, answered)

    def visit(node: Node, values: list[Values]) -> None:
        adding, index = problem.added.get(node.name, ("", 0))
        own = nodes[node.name]
        bias = nodes[adding].inputs[index] if adding else own.inputs[2] if len(own.inputs) > 2 else ""
        solve = _Layer(problem, network, node, own, bias, not adding, values, known, relevance)
        solve.fit(generator) if kernels else solve.shift()

    walk([problem.original, network], samples, list(problem.windows), visit)
    return written(network.proto, network.constants)


@dataclass(frozen=True)
class _Layer:
    """One layer to repair: ``node`` in the original, ``own`` in the cut network.

    bias: the constant that shifts its outputs, "" without one; ``inside``: whether the layer itself adds it.
    """

    problem: _Problem
    network: Network
    node: Node
    own: Node
    bias: str
    inside: bool
    values: list[Values]
    known: int
    relevance: Relevance | None

    def fit(self, generator: np.random.Generator) -> None:
        """Give the layer the weights of least error."""
        window = self.problem.windows[self.node.name]
        given, target = np.concatenate(self.values[1][self.own.inputs[0]]), self._target()
        start = self._start(window)
        made = target.shape
        places = window.places((1, *made[1:]))
        count = min(math.ceil(rows_wanted(len(start)) / len(given)), places)
        chosen = np.sort(generator.permutation(places)[:count])
        moments = _moments_of_each if window.depthwise else _moments
        heed = self.relevance.at(made) if self.relevance else None
        heed = np.ones((len(given), len(chosen)), np.float32) if heed is None else heed[:, chosen]
        known, unseen = (
            moments(window, given[part], target[part], chosen, np.sqrt(heed[part]), start, bool(self.bias))
            for part in (slice(0, self.known), slice(self.known, None))
        )
        each = np.split(start, len(known), axis=1)
        found = [damped_fit(*three, bool(self.bias)).weights for three in zip(known, unseen, each, strict=True)]
        self._assign(window, np.concatenate(found, axis=1))

    def shift(self) -> None:
        """Correct the mean of each output through the bias."""
        if not self.bias:
            return
        window = self.problem.windows[self.node.name]
        given, target = np.concatenate(self.values[1][self.own.inputs[0]][: self.known]), self._target()[: self.known]
        start = self._start(window)
        chosen = np.arange(window.places((1, *target.shape[1:])))[:: max(1, len(start) // 256)]
        rows = window.rows(given, chosen, target.shape)
        mean = rows.mean(axis=0)
        made = np.sum(mean.T * start[:-1], axis=0) if window.depthwise else mean @ start[:-1]
        error = window.made(target, chosen).mean(axis=0) - (made + start[-1])
        start[-1] += error
        self._assign(window, start)

    def _start(self, window: Window) -> Matrix:
        """Return the (features, outputs) weights as they are; the bias is the last row."""
        flat = window.weights(self.network.constants[self.own.inputs[1]])
        if not self.bias:
            return flat
        bias = self.network.constants[self.bias].astype(np.float64)
        return np.concatenate([flat, bias[None] if self.inside else np.zeros_like(bias)[None]])

    def _assign(self, window: Window, weights: Matrix) -> None:
        constants, name = self.network.constants, self.own.inputs[1]
        kernel = constants[name]
        constants[name] = window.stored(weights[:-1] if self.bias else weights, kernel)
        if self.bias:
            before = 0.0 if self.inside else constants[self.bias]
            constants[self.bias] = (before + weights[-1]).astype(kernel.dtype)

    def _target(self) -> Array:
        """Return what the layer is to make, samples first: corrected for what its shortcut gets wrong."""
        made = np.concatenate(self.values[0][self.node.outputs[0]])
        kept = self.problem.outputs.get(self.node.name)
        axis = 1 if self.problem.windows[self.node.name].kernel else made.ndim - 1
        made = made if kept is None else np.compress(kept, made, axis=axis)
        other = self.problem.shortcuts.get(self.node.name, "")
        if other in self.values[0] and other in self.values[1]:
            before = np.concatenate(self.values[0][other])
            before = before if kept is None else np.compress(kept, before, axis=axis)
            made = made + (before - np.concatenate(self.values[1][other]))
        return made


def _moments(
    window: Window, given: Array, target: Array, chosen: npt.NDArray[np.int64], heed: Weights, start: Matrix,
    constant: bool,
) -> list[Moments]:  # fmt: skip
    """Sum the second moments over samples, at the chosen positions of each: one sum, which serves all outputs."""
    moments = Moments.empty(*start.shape)
    step = max(1, _STEP_ROWS // max(len(chosen), 1))
    for first in range(0, len(given), step):
        x = window.rows(given[first : first + step], chosen, target.shape)
        y = window.made(target[first : first + step], chosen)
        if constant:
            x = np.concatenate([x, np.ones_like(x[:, :1])], axis=1)
        weight = heed[first : first + step].reshape(-1, 1)
        x, y = x * weight, y * weight
        moments.add(x.T @ x, x.T @ y, np.sum(y * y, 0), np.sum(y, 0), len(y))
    return [moments]


def _moments_of_each(
    window: Window, given: Array, target: Array, chosen: npt.NDArray[np.int64], heed: Weights, start: Matrix,
    constant: bool,
) -> list[Moments]:  # fmt: skip
    """Do the same for each output of a depthwise convolution, which reads features of its own."""
    outputs = [Moments.empty(len(start), 1) for _ in range(start.shape[1])]
    step = max(1, _STEP_ROWS // 8 // max(len(chosen), 1))
    for first in range(0, len(given), step):
        x = window.rows(given[first : first + step], chosen, target.shape)
        y = window.made(target[first : first + step], chosen)
        if constant:
            x = np.concatenate([x, np.ones_like(x[:, :, :1])], axis=2)
        weight = heed[first : first + step].reshape(-1, 1)
        x, y = x * weight[:, :, None], y * weight
        own, targets = x.transpose(1, 0, 2), y.T[:, :, None]  # (outputs, rows, features) and (outputs, rows, 1)
        gram, cross = own.transpose(0, 2, 1) @ own, own.transpose(0, 2, 1) @ targets
        square, total = np.sum(targets * targets, axis=1), np.sum(targets, axis=1)
        for index, moments in enumerate(outputs):
            moments.add(gram[index], cross[index], square[index], total[index], len(y))
    return outputs
