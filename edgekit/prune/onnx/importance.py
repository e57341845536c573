"""Score the units of an ONNX network without labels or gradients. One function per method, named in IMPORTANCE.

Every method returns (units,) float64, larger is more important.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edgekit.prune.channels.coupling import IntArray
from edgekit.prune.channels.graph import Block, ChannelGraph, WeightAxis
from edgekit.prune.onnx.execute import Arrays, answers, distance
from edgekit.prune.onnx.least_squares import sums
from edgekit.prune.onnx.network import Array, Network, Node, runnable
from edgekit.prune.onnx.walk import Values, walk
from edgekit.prune.selection.calibration import calibrated, measured_ends

Matrix = npt.NDArray[np.float64]
Method = Callable[[Network, ChannelGraph, Arrays, int], Matrix]
_MOST_FEATURES = 1024  # channels that one layer reads; above, correlations are left out
_RIDGE = 1e-3  # of the mean variance
_POSITIONS = 64  # per sample
_MEASURED_SAMPLES = 32


def reconstruction(network: Network, graph: ChannelGraph, inputs: Arrays, seed: int) -> Matrix:
    """Estimate what the layers behind a unit lose with it, once their other weights have made up for what they can.

    Per block, channels go one after another, each time the one that costs least: its variance that the channels
    which are left cannot predict, times the squared weights that read it, over the variance of what they make.
    This is the optimal brain surgeon on whole channels (Hassibi and Stork 1993; OBC, Frantar and Alistarh 2022)
    with statistics of channels, so that what the closed-form repair will mend costs nothing here. What a quarter,
    half and three quarters of each block cost so is then measured at the outputs, which makes blocks comparable.
    """
    readers = _readers(network, graph, inputs, seed)
    scores = np.zeros(graph.unit_count)
    few = {name: array[:_MEASURED_SAMPLES] for name, array in inputs.items()}
    expected = answers(runnable(network.proto, network.constants), few)
    for block in graph.blocks:
        reading = [reader for reader in readers if reader.reads(block)]
        order, costs = _eliminate(block, [reader.copy() for reader in reading])
        ends = measured_ends(len(order))
        measured = [distance(expected, answers(_without(network, reading, order[:end]), few)) for end in ends]
        scores[order] = calibrated(costs, ends, measured)
    return scores


def _without(network: Network, readers: list[_Reader], gone: IntArray) -> bytes:
    """Return the whole network with no weight on the units ``gone``: the others' took over what they can predict."""
    constants = dict(network.constants)
    for reader in readers:
        constants[reader.name], shift = reader.taken_over(constants[reader.name], gone)
        if reader.bias:
            constants[reader.bias] = (constants[reader.bias] + shift).astype(constants[reader.bias].dtype)
    return runnable(network.proto, constants)


def l2(network: Network, graph: ChannelGraph, inputs: Arrays, seed: int) -> Matrix:
    """Sum the Euclidean norms of the weights that produce each unit; inputs and seed are not used."""
    names = {place: name for name, place in network.owners.items()}
    total = np.zeros(graph.unit_count)
    for axis in graph.axes:
        if axis.role == "out":
            array = network.constants[names[axis.layer, axis.weight]].astype(np.float64)
            others = tuple(other for other in range(array.ndim) if other != axis.axis)
            inside = axis.units >= 0
            np.add.at(total, axis.units[inside], np.sqrt(np.sum(array**2, axis=others))[inside])
    return total


def random(network: Network, graph: ChannelGraph, inputs: Arrays, seed: int) -> Matrix:
    """Draw the order from the seed: the control every other method has to beat."""
    return np.random.default_rng(seed).random(size=graph.unit_count)


IMPORTANCE: dict[str, Method] = {"reconstruction": reconstruction, "l2": l2, "random": random}


@dataclass(eq=False)
class _Reader:
    """One axis of a constant that reads channels: how these vary together, and how its weights weigh them.

    bias: the constant that shifts what the layer makes, or "". precision: inverse covariance of the features that
    are left. gram: products of their weights, over the variance of what the layer makes.
    """

    name: str
    axis: int
    bias: str
    units: IntArray
    mean: Matrix
    precision: Matrix
    gram: Matrix

    def reads(self, block: Block) -> bool:
        return bool(np.isin(self.units, block.units).any())

    def copy(self) -> _Reader:
        return replace(self, precision=self.precision.copy(), gram=self.gram.copy())

    def costs(self, units: IntArray, alive: IntArray) -> Matrix:
        """Return what each of ``units`` would cost if it went now; several features of one count by themselves."""
        variance = 1.0 / np.maximum(np.diag(self.precision), 1e-30)
        each = variance * np.diag(self.gram)
        found = np.zeros(int(max(units.max(initial=-1), self.units.max(initial=-1))) + 1)
        inside = self.units >= 0
        np.add.at(found, self.units[inside], each[inside])
        return np.asarray(found[units[alive]])

    def taken_over(self, weights: Array, gone: IntArray) -> tuple[Array, Matrix]:
        """Let the features of the units ``gone`` count nothing, and the others for what they tell of them.

        Return the weights, and the (outputs,) by which they shift what the layer makes.
        """
        dead = np.isin(self.units, gone)
        flat = np.moveaxis(weights, self.axis, 0).reshape(len(self.units), -1).astype(np.float64)
        # of a Gaussian: the mean of some given the others, by blocks of the precision matrix
        share = np.linalg.solve(self.precision[np.ix_(dead, dead)], self.precision[np.ix_(dead, ~dead)])
        constant = (self.mean[dead] + share @ self.mean[~dead]) @ flat[dead]
        flat[~dead] -= share.T @ flat[dead]
        flat[dead] = 0.0
        shape = np.moveaxis(weights, self.axis, 0).shape
        changed = np.ascontiguousarray(np.moveaxis(flat.reshape(shape), 0, self.axis)).astype(weights.dtype)
        return changed, constant.reshape(shape[1], -1).sum(axis=1)

    def remove(self, unit: int) -> None:
        """Let the features of a unit go: the others take over what they can predict of them."""
        for feature in np.flatnonzero(self.units == unit).tolist():
            share = -self.precision[feature] / self.precision[feature, feature]
            share[feature] = 0.0
            own = self.gram[feature, feature]
            self.gram += np.outer(share, self.gram[feature]) + np.outer(self.gram[feature], share)
            self.gram += own * np.outer(share, share)
            self.precision -= (
                np.outer(self.precision[feature], self.precision[feature]) / (self.precision[feature, feature])
            )
            self.gram[feature] = self.gram[:, feature] = 0.0
            self.precision[feature] = self.precision[:, feature] = 0.0
            self.precision[feature, feature] = 1.0


def _eliminate(block: Block, readers: list[_Reader]) -> tuple[IntArray, Matrix]:
    """Remove the units of a block one after another; return them in that order, and what each cost then.

    A later one counts at least as much as those before.
    """
    units = np.array(block.units, np.int64)
    left = np.arange(len(units))
    order, paid = [], []
    while len(left):
        costs = sum((reader.costs(units, left) for reader in readers), np.zeros(len(left)))
        least = int(np.argmin(costs))
        order.append(int(units[left[least]]))
        paid.append(float(costs[least]))
        for reader in readers:
            reader.remove(order[-1])
        left = np.delete(left, least)
    return np.array(order, np.int64), np.maximum.accumulate(np.array(paid)) * (1.0 + 1e-9 * np.arange(len(paid)))


def _readers(network: Network, graph: ChannelGraph, inputs: Arrays, seed: int) -> list[_Reader]:
    """Run the network once and return the statistics of every weight axis that reads units."""
    names = {place: name for name, place in network.owners.items()}
    by_layer: dict[str, list[WeightAxis]] = {}
    for axis in graph.axes:
        if axis.role == "in" and (axis.units >= 0).any():
            by_layer.setdefault(axis.layer, []).append(axis)
    generator = np.random.default_rng(seed)
    _, added = sums(network)
    found: list[_Reader] = []

    def visit(node: Node, values: list[Values]) -> None:
        for axis in by_layer[node.name]:
            name = names[axis.layer, axis.weight]
            given = values[0][node.inputs[1 - axis.weight]]
            rows = _channels(node, axis, given, generator)
            found.append(_reader(name, axis, _bias(network, node, added), network.constants[name], rows))

    walk([network], inputs, list(by_layer), visit)
    return found


def _bias(network: Network, node: Node, added: dict[str, tuple[str, int]]) -> str:
    """Return the constant that a layer's outputs are shifted by; "" where there is none, or its places differ."""
    if node.name in added:
        adding, index = added[node.name]
        return next(other.inputs[index] for other in network.nodes if other.name == adding)
    own = node.inputs[2] if node.op in ("Conv", "Gemm") and len(node.inputs) > 2 else ""
    return own if own in network.constants and network.constants[own].ndim == 1 else ""


def _channels(node: Node, axis: WeightAxis, given: list[Array], generator: np.random.Generator) -> Matrix:
    """Return (rows, features) of what a node reads, at some positions of every sample."""
    spatial = node.op in ("Conv", "ConvTranspose")
    rows = []
    for array in given:
        place = 1 if spatial else array.ndim - 1 if axis.weight == 1 else array.ndim - 2
        flat = np.moveaxis(array, place, -1).reshape(-1, array.shape[place])
        chosen = generator.permutation(len(flat))[:_POSITIONS]
        rows.append(flat[np.sort(chosen)])
    return np.concatenate(rows).astype(np.float64)


def _reader(name: str, axis: WeightAxis, bias: str, kernel: Array, rows: Matrix) -> _Reader:
    weights = np.moveaxis(kernel.astype(np.float64), axis.axis, 0).reshape(kernel.shape[axis.axis], -1)
    groups = rows.shape[1] // len(weights)  # a grouped convolution reads as many channels for each weight
    rows = rows.reshape(len(rows) * groups, -1) if groups > 1 else rows
    mean = rows.mean(axis=0)
    centred = rows - mean
    gram = weights @ weights.T
    if len(weights) > _MOST_FEATURES:
        covariance = np.diag(np.mean(centred**2, axis=0))
    else:
        covariance = centred.T @ centred / max(len(centred), 1)
    made = float(np.sum(covariance * gram)) or 1.0
    ridge = _RIDGE * float(np.mean(np.diag(covariance))) + 1e-12
    precision = np.asarray(np.linalg.inv(covariance + ridge * np.eye(len(covariance))), np.float64)
    return _Reader(name, axis.axis, bias, axis.units, mean, precision, gram / made)
