"""Score the units of an ONNX network without labels or gradients. One function per method, named in IMPORTANCE.

Every method returns (units,) float64, larger is more important.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.prune.channel_graph import Block, ChannelGraph, WeightAxis
from edgekit.prune.channels import IntArray
from edgekit.prune.onnx.execute import Arrays
from edgekit.prune.onnx.network import Array, Network, Node
from edgekit.prune.onnx.walk import Values, walk

Matrix = npt.NDArray[np.float64]
Method = Callable[[Network, ChannelGraph, Arrays, int], Matrix]
_MOST_FEATURES = 1024  # channels that one layer reads; above, correlations are left out
_RIDGE = 1e-3  # of the mean variance
_POSITIONS = 64  # per sample


def reconstruction(network: Network, graph: ChannelGraph, inputs: Arrays, seed: int) -> Matrix:
    """Estimate what the layers behind a unit lose with it, once their other weights have made up for what they can.

    Per block, channels go one after another, each time the one that costs least: its variance that the channels
    which are left cannot predict, times the squared weights that read it, over the variance of what they make.
    This is the optimal brain surgeon on whole channels (Hassibi and Stork 1993; OBC, Frantar and Alistarh 2022)
    with statistics of channels, so that what the closed-form repair will mend costs nothing here.
    """
    readers = _readers(network, graph, inputs, seed)
    scores = np.zeros(graph.unit_count)
    for block in graph.blocks:
        _eliminate(block, [reader.copy() for reader in readers if reader.reads(block)], scores)
    return scores


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
    """One layer that reads channels: by feature, how they vary together, and how its weights weigh them.

    precision: inverse covariance of the features that are left. gram: products of their weights, over the
    variance of what the layer makes.
    """

    units: IntArray
    precision: Matrix
    gram: Matrix

    def reads(self, block: Block) -> bool:
        return bool(np.isin(self.units, block.units).any())

    def copy(self) -> _Reader:
        return _Reader(self.units, self.precision.copy(), self.gram.copy())

    def costs(self, units: IntArray, alive: IntArray) -> Matrix:
        """Return what each of ``units`` would cost if it went now; several features of one count by themselves."""
        variance = 1.0 / np.maximum(np.diag(self.precision), 1e-30)
        each = variance * np.diag(self.gram)
        found = np.zeros(int(max(units.max(initial=-1), self.units.max(initial=-1))) + 1)
        inside = self.units >= 0
        np.add.at(found, self.units[inside], each[inside])
        return np.asarray(found[units[alive]])

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


def _eliminate(block: Block, readers: list[_Reader], scores: Matrix) -> None:
    """Order the units of a block by removing one after another; later ones count at least as much as those before."""
    units = np.array(block.units, np.int64)
    left = np.arange(len(units))
    worst = 0.0
    while len(left):
        costs = sum((reader.costs(units, left) for reader in readers), np.zeros(len(left)))
        least = int(np.argmin(costs))
        worst = max(worst, float(costs[least]))
        scores[units[left[least]]] = worst * (1.0 + 1e-9 * (len(units) - len(left)))
        for reader in readers:
            reader.remove(int(units[left[least]]))
        left = np.delete(left, least)


def _readers(network: Network, graph: ChannelGraph, inputs: Arrays, seed: int) -> list[_Reader]:
    """Run the network once and return the statistics of every weight axis that reads units."""
    names = {place: name for name, place in network.owners.items()}
    by_layer: dict[str, list[WeightAxis]] = {}
    for axis in graph.axes:
        if axis.role == "in" and (axis.units >= 0).any():
            by_layer.setdefault(axis.layer, []).append(axis)
    generator = np.random.default_rng(seed)
    found: list[_Reader] = []

    def visit(node: Node, values: list[Values]) -> None:
        for axis in by_layer[node.name]:
            kernel = network.constants[names[axis.layer, axis.weight]]
            given = values[0][node.inputs[1 - axis.weight]]
            found.append(_reader(axis, kernel, _channels(node, axis, given, generator)))

    walk([network], inputs, list(by_layer), visit)
    return found


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


def _reader(axis: WeightAxis, kernel: Array, rows: Matrix) -> _Reader:
    weights = np.moveaxis(kernel.astype(np.float64), axis.axis, 0).reshape(kernel.shape[axis.axis], -1)
    groups = rows.shape[1] // len(weights)  # a grouped convolution reads as many channels for each weight
    rows = rows.reshape(len(rows) * groups, -1) if groups > 1 else rows
    centred = rows - rows.mean(axis=0)
    gram = weights @ weights.T
    if len(weights) > _MOST_FEATURES:
        covariance = np.diag(np.mean(centred**2, axis=0))
    else:
        covariance = centred.T @ centred / max(len(centred), 1)
    made = float(np.sum(covariance * gram)) or 1.0
    ridge = _RIDGE * float(np.mean(np.diag(covariance))) + 1e-12
    precision = np.asarray(np.linalg.inv(covariance + ridge * np.eye(len(covariance))), np.float64)
    return _Reader(axis.units, precision, gram / made)
