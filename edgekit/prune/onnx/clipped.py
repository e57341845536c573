"""Least squares in front of an activation that clips: what is cut off need not be right."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.prune.onnx.network import Network, Node
from edgekit.prune.repair.linear_fit import Matrix

Rows = npt.NDArray[np.float32]
_ITERATIONS = 30
_CHECKED = 3  # every so many iterations, on unseen rows
_DAMPING = 1e-3  # of the features' squares
_OPERATIONS = 4e11  # for one layer: some seconds
_BYTES = 1 << 28  # of features; some times as much while they are gathered
_LEAST_ROWS = 6  # for each feature; with fewer, the solution with all values counting is the safer one


@dataclass(frozen=True)
class Bounds:
    """What an activation lets through: ReLU from 0 on, ReLU6 between 0 and 6."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Seen:
    """Rows of what a layer reads (a constant 1 may be the last feature), and what it is to make of them.

    beside: (rows, outputs) that a shortcut adds before the activation. weights: (rows, 1).
    """

    features: Rows
    wanted: Rows
    beside: Rows | None
    weights: Rows

    @property
    def target(self) -> Rows:
        return self.wanted if self.beside is None else self.wanted + self.beside

    def made(self, weights: Matrix) -> Rows:
        found = self.features @ weights.astype(np.float32)
        return found if self.beside is None else found + self.beside


def bounds_behind(network: Network, node: Node, sums: Mapping[str, str]) -> Bounds | None:
    """Return what clips a layer's output and alone reads it; None where nothing does.

    sums: by node, the Add that alone reads its output, and whose result then counts.
    """
    made = node.outputs[0]
    if node.name in sums:
        made = next(other.outputs[0] for other in network.nodes if other.name == sums[node.name])
    reading = [other for other in network.nodes if made in (*other.inputs, *other.captured)]
    if len(reading) != 1 or made in network.outputs:
        return None
    if reading[0].op == "Relu":
        return Bounds(0.0, math.inf)
    if reading[0].op != "Clip":
        return None
    low, high = (_number(network, reading[0], *place) for place in ((1, "min", -math.inf), (2, "max", math.inf)))
    return Bounds(low, high) if low is not None and high is not None else None


def _number(network: Network, node: Node, index: int, name: str, otherwise: float) -> float | None:
    """Return a limit of a Clip: an attribute up to opset 10, an input since; None where it is computed."""
    if index < len(node.inputs) and node.inputs[index]:
        array = network.constants.get(node.inputs[index])
        return float(array.item()) if array is not None and array.size == 1 else None
    return float(node.attributes.get(name, otherwise))


def rows_affordable(features: int, outputs: int) -> int:
    """Return how many rows the fit may see; 0 where they would be too few for so many features."""
    rows = int(min(_OPERATIONS / (4.0 * _ITERATIONS * features * outputs), _BYTES / (4.0 * features)))
    return rows if rows >= _LEAST_ROWS * features else 0


def clipped_fit(known: Seen, unseen: Seen, start: Matrix, bounds: Bounds, constant: bool) -> Matrix:
    """Return the (features, outputs) weights whose clipped outputs are nearest to the clipped targets.

    Where a target is cut off, any output on its side is as good: the rest is a convex problem with one least-squares
    solution for every guess of which rows still err (Zhang et al. 2015, nonlinear approximation), taken with
    momentum. Each output keeps what errs least on ``unseen`` rows, or ``start``. With ``constant`` the last feature
    is always 1 and not damped.
    """
    weighted = known.features if np.all(known.weights == 1.0) else known.features * known.weights
    gram = (weighted.T @ known.features).astype(np.float64)
    power = np.diag(gram).copy()
    ridge = _DAMPING * (power + 1e-6 * float(power.mean()) + 1e-30)
    if constant:
        ridge[-1] = 1e-12 * power[-1]
    inverse = np.linalg.inv(gram + np.diag(ridge))
    best, least = start, _error(unseen, start, bounds)
    now = before = start
    target = known.target
    for turn in range(1, _ITERATIONS + 1):
        ahead = now + (turn - 1) / (turn + 2) * (now - before)
        missing = _missing(known.made(ahead), target, bounds)
        before, now = now, ahead + inverse @ (weighted.T @ missing).astype(np.float64)
        if turn % _CHECKED == 0:
            error = _error(unseen, now, bounds)
            best, least = np.where(error < least, now, best), np.minimum(error, least)
    return best


def _missing(made: Rows, target: Rows, bounds: Bounds) -> Rows:
    """Return by how much outputs are off; beyond a bound that the target is beyond, by nothing."""
    below, above = np.minimum(bounds.low - made, 0.0), np.maximum(bounds.high - made, 0.0)
    return np.where(target <= bounds.low, below, np.where(target >= bounds.high, above, target - made))


def _error(rows: Seen, weights: Matrix, bounds: Bounds) -> Matrix:
    """Return the (outputs,) squared error behind the activation."""
    off = np.clip(rows.made(weights), bounds.low, bounds.high) - np.clip(rows.target, bounds.low, bounds.high)
    return np.asarray(np.sum(rows.weights * off * off, axis=0), np.float64)
