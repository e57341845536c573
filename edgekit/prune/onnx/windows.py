"""Rows of a linear node: what its kernel sees at some positions of its output (im2col, sampled)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.prune.onnx.network import Array, Network, Node

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """How a node's kernel reads its input. A matrix product is a kernel without space: ``kernel`` is empty.

    transposed: whether the stored matrix is (outputs, features); convolutions always are.
    depthwise: every output reads one input alone, ``weights`` is then (kernel positions, outputs).
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[int, ...]  # before each axis, then after each
    transposed: bool
    depthwise: bool = False

    def weights(self, stored: Array) -> npt.NDArray[np.float64]:
        """Return the (features, outputs) matrix of a stored kernel."""
        flat = stored.reshape(stored.shape[0], -1) if self.kernel else stored
        return np.asarray(flat.T if self.transposed else flat, np.float64)

    def stored(self, weights: npt.NDArray[np.float64], like: Array) -> Array:
        """Return a (features, outputs) matrix as the node stores it."""
        return np.ascontiguousarray(weights.T if self.transposed else weights).reshape(like.shape).astype(like.dtype)

    def places(self, made: tuple[int, ...]) -> int:
        """Count the positions of one sample's output of this shape."""
        return math.prod(made[2:]) if self.kernel else math.prod(made[:-1])

    def rows(self, given: Array, chosen: IntArray, made: tuple[int, ...]) -> Array:
        """Return (samples x positions, features) of stacked inputs; ``chosen``: positions in the flattened output.

        Depthwise: (samples x positions, outputs, kernel positions). ``made``: the shape of the output.
        """
        if not self.kernel:
            flat = given.reshape(len(given), -1, given.shape[-1])
            return flat[:, chosen].reshape(-1, given.shape[-1])
        half = len(self.kernel)
        around = [(0, 0), (0, 0), *zip(self.pads[:half], self.pads[half:], strict=True)]
        padded = np.pad(given, around)
        grid = padded.shape[2:]
        steps = np.array([math.prod(grid[axis + 1 :]) for axis in range(half)], np.int64)
        offsets = np.indices(self.kernel).reshape(half, -1) * np.array(self.dilations)[:, None]
        corners = np.array(np.unravel_index(chosen, made[2:])) * np.array(self.strides)[:, None]
        index = (corners * steps[:, None]).sum(0)[:, None] + (offsets * steps[:, None]).sum(0)[None]
        seen = padded.reshape(*padded.shape[:2], -1)[:, :, index]  # (samples, channels, positions, kernel)
        if self.depthwise:
            seen = np.repeat(seen, made[1] // given.shape[1], axis=1)
            return seen.transpose(0, 2, 1, 3).reshape(-1, made[1], seen.shape[-1])
        return seen.transpose(0, 2, 1, 3).reshape(len(given) * len(chosen), -1)

    def made(self, outputs: Array, chosen: IntArray) -> Array:
        """Return the (samples x positions, outputs) that belong to ``rows``."""
        if not self.kernel:
            return outputs.reshape(len(outputs), -1, outputs.shape[-1])[:, chosen].reshape(-1, outputs.shape[-1])
        flat = outputs.reshape(*outputs.shape[:2], -1)[:, :, chosen]
        return flat.transpose(0, 2, 1).reshape(-1, outputs.shape[1])


def window_of(network: Network, node: Node) -> Window | None:
    """Return how a node reads; None where it is no convolution, plain or depthwise, and no product with a constant."""
    kernel = network.constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
    if kernel is None or (len(node.inputs) > 2 and node.inputs[2] and node.inputs[2] not in network.constants):
        return None
    given: dict[str, Any] = node.attributes
    if node.op == "Gemm" and not given.get("transA") and given.get("alpha", 1.0) == given.get("beta", 1.0) == 1.0:
        bias = network.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
        fits = bias is None or bias.ndim == 1
        return Window((), (), (), (), bool(given.get("transB", 0))) if fits else None
    if node.op == "MatMul" and kernel.ndim == 2 and node.inputs[0] not in network.constants:
        return Window((), (), (), (), False)
    if node.op != "Conv" or given.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return None
    groups = given.get("group", 1)
    depthwise = groups > 1 and kernel.shape[1] == 1 and groups == (network.shapes.get(node.inputs[0]) or (0, 0))[1]
    if groups != 1 and not depthwise:
        return None
    size = kernel.shape[2:]
    ones, none = (1,) * len(size), (0,) * (2 * len(size))
    pads = none if given.get("auto_pad") == "VALID" else tuple(given.get("pads", none))
    return Window(size, tuple(given.get("strides", ones)), tuple(given.get("dilations", ones)), pads, True, depthwise)
