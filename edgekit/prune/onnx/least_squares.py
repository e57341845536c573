"""Repair a cut ONNX network without training: layer by layer, the weights of least squared error."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from edgekit.prune.channels.graph import BoolArray, ChannelGraph, stays
from edgekit.prune.onnx.clipped import Bounds, bounds_behind
from edgekit.prune.onnx.execute import Arrays, answers, distance
from edgekit.prune.onnx.layer_fit import Layer, at_kept
from edgekit.prune.onnx.network import Network, Node, read, runnable, written
from edgekit.prune.onnx.relevance import Relevance
from edgekit.prune.onnx.walk import Values, bytes_each, walk
from edgekit.prune.onnx.windows import Window, window_of
from edgekit.prune.repair.linear_fit import MOST_FEATURES
from edgekit.prune.selection.greedy import Selection


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
    that came before, what makes the sum right; in front of a ReLU, what is right where something passes it
    (``clipped``). Tried beside it: new means alone. The least output distance on
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
    bounds: dict[str, Bounds]
    unsolved: tuple[str, ...]

    @staticmethod
    def of(original: Network, graph: ChannelGraph, selection: Selection) -> _Problem:
        kept = selection.mask(graph)
        cut = {axis.layer for axis in graph.axes if axis.role == "in" and not stays(axis.units, kept).all()}
        nodes = {node.name: node for node in original.nodes}
        names = list(nodes)
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
        adding = {name: place[0] for name, place in added.items()}
        adding |= {name: _reader(original, name) for name in shortcuts}
        found = {name: bounds_behind(original, nodes[name], adding) for name in windows}
        bounds = {name: bound for name, bound in found.items() if bound is not None}
        return _Problem(original, windows, outputs, shortcuts, added, bounds, tuple(sorted(cut - set(windows))))

    def layer(
        self, network: Network, nodes: dict[str, Node], node: Node, values: list[Values], known: int,
        relevance: Relevance | None,
    ) -> Layer:  # fmt: skip
        """Return ``node`` of the original as the task of its like in the cut ``network``, whose nodes are ``nodes``.

        Behind a sum with a shortcut that came before, it is to correct what the shortcut gets wrong, too.
        """
        own, window, kept = nodes[node.name], self.windows[node.name], self.outputs.get(node.name)
        adding, index = self.added.get(node.name, ("", 0))
        bias = nodes[adding].inputs[index] if adding else own.inputs[2] if len(own.inputs) > 2 else ""
        target = at_kept(np.concatenate(values[0][node.outputs[0]]), kept, window)
        bounds, other, beside = self.bounds.get(node.name), self.shortcuts.get(node.name, ""), None
        if other in values[0] and other in values[1]:
            beside = np.concatenate(values[1][other])
            target = target + (at_kept(np.concatenate(values[0][other]), kept, window) - beside)
        elif other:
            bounds = None
        elif adding:
            beside = np.broadcast_to(network.constants[bias], target.shape)
        return Layer(
            network, own, window, np.concatenate(values[1][own.inputs[0]]), target, known, bias, not adding,
            relevance.at(target.shape) if relevance else None, beside, bounds,
        )  # fmt: skip


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


def _reader(network: Network, name: str) -> str:
    """Return the one node that reads what a node makes."""
    (made,) = (node.outputs[0] for node in network.nodes if node.name == name)
    return next(node.name for node in network.nodes if made in node.inputs)


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
        layer = problem.layer(network, nodes, node, values, known, relevance)
        layer.fit(generator) if kernels else layer.shift()

    walk([problem.original, network], samples, list(problem.windows), visit)
    return written(network.proto, network.constants)
