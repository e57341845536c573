"""Where in an image a detector sees something: errors elsewhere hardly matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.prune.onnx.execute import Arrays
from edgekit.prune.onnx.network import Network
from edgekit.prune.recovery.detections import find_detections

Weights = npt.NDArray[np.float32]
_REACH = 2  # cells around one that sees something, whose features it is made of
_OF_SOMETHING = 20.0  # the weight of a cell that is sure, over one where nothing is


@dataclass(frozen=True)
class Relevance:
    """How much each cell of the scores' grid counts, (samples, height, width), at least 1."""

    cells: Weights

    @staticmethod
    def of(network: Network, answered: Sequence[Arrays]) -> Relevance | None:
        """Read it from the scores beside boxes; None where the network is no detector with one grid of scores."""
        pairs = find_detections({name: array.shape for name, array in answered[0].items()})
        if len(pairs) != 1:
            return None
        scores = np.concatenate([one[next(iter(pairs.values()))] for one in answered]).max(axis=-1)
        grid = next(
            (shape[2:] for shape in network.shapes.values()
             if len(shape) == 4 and (shape[2] or 0) * (shape[3] or 0) == scores.shape[1]), None,
        )  # fmt: skip
        if grid is None or float(scores.max()) <= 0:
            return None
        cells = np.maximum(scores / scores.max(), 0.0).reshape(-1, *[size or 1 for size in grid])
        padded = np.pad(cells, ((0, 0), (_REACH, _REACH), (_REACH, _REACH)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * _REACH + 1, 2 * _REACH + 1), axis=(1, 2))
        return Relevance((1.0 + _OF_SOMETHING * windows.max(axis=(-1, -2))).astype(np.float32))

    def at(self, made: tuple[int, ...]) -> Weights | None:
        """Return (samples, positions) weights for a tensor of this shape; None where it has no height and width."""
        if len(made) != 4:
            return None
        rows, columns = (
            np.minimum(np.arange(size) * cells // size + cells // (2 * size), cells - 1)
            for size, cells in zip(made[2:], self.cells.shape[1:], strict=True)
        )
        return self.cells[:, rows][:, :, columns].reshape(len(self.cells), -1)
