"""What a weighted op reads, as rows of a matrix: one row per output position, one column per weight of a channel.

Mean and second moments of those rows say what any change of the weights does to the outputs, exactly and without
running anything: weights and biases are repaired from them. Rows are counted up in place, so memory does not grow
with the samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.quantize.equalize.layers import Layer, Window

Array = npt.NDArray[Any]
_ROWS = 512  # of one layer, all samples together, and more where there are more columns to tell apart
_ROWS_PER_COLUMN = 3


def as_matrix(layer: Layer, weight: Array) -> Array:
    """Return the weights as (groups, outputs per group, columns), columns by kernel position, then input channel."""
    moved = np.moveaxis(weight, (layer.output_axis, layer.input_axis), (0, -1))
    result: Array = moved.reshape(layer.groups, moved.shape[0] // layer.groups, -1)
    return result


def from_matrix(layer: Layer, matrix: Array, like: Array) -> Array:
    """Undo ``as_matrix`` into the shape of ``like``."""
    shape = np.moveaxis(like, (layer.output_axis, layer.input_axis), (0, -1)).shape
    moved = np.moveaxis(matrix.reshape(shape), (0, -1), (layer.output_axis, layer.input_axis))
    return np.ascontiguousarray(moved, np.float32)


@dataclass
class InputMoments:
    """Of the rows a layer reads: ``mean`` (groups, columns) and ``covariance`` (groups, columns, columns).

    The covariance comes from evenly spaced rows, a few per column, and only where ``spread`` asks for it.
    """

    layer: Layer
    window: Window | None
    samples: int
    spread: bool = False
    _seen: int = 0
    _rows: int = 0
    _mean: Array = field(default_factory=lambda: np.zeros(0))
    _origin: Array = field(default_factory=lambda: np.zeros(0))  # of the sums below: near the mean, for float32
    _sum: Array = field(default_factory=lambda: np.zeros(0))
    _products: Array = field(default_factory=lambda: np.zeros(0))

    def add(self, values: Array) -> None:
        """Add the input tensor of one sample, in the layout of its file."""
        taps = self._taps(values)
        mean = self._grouped(np.stack([tap.mean(axis=0, dtype=np.float64) for tap in taps])[None])[:, 0]
        if not self._seen:
            self._mean, self._origin = np.zeros_like(mean), mean[:, None].astype(np.float32)
        self._mean += (mean - self._mean) / (self._seen + 1)
        self._seen += 1
        if self.spread:
            enough = max(_ROWS, _ROWS_PER_COLUMN * mean.shape[1])
            stride = max(1, len(taps[0]) * self.samples // enough)
            rows = self._grouped(np.stack([tap[::stride] for tap in taps], axis=1)) - self._origin
            products = (rows.transpose(0, 2, 1) @ rows).astype(np.float64)
            total = rows.sum(axis=1, dtype=np.float64)
            self._products, self._sum = (products, total) if not self._rows else (
                self._products + products, self._sum + total
            )  # fmt: skip
            self._rows += rows.shape[1]

    @property
    def mean(self) -> Array:
        return self._mean

    @property
    def covariance(self) -> Array:
        mean = self._sum / self._rows
        result: Array = self._products / self._rows - mean[:, :, None] * mean[:, None, :]
        return result

    @property
    def second(self) -> Array:
        """E[x x^T], for a layer without a bias that would take the mean."""
        result: Array = self.covariance + self._mean[:, :, None] * self._mean[:, None, :]
        return result

    def _grouped(self, rows: Array) -> Array:
        """Turn (rows, taps, channels) into (groups, rows, taps * channels of the group)."""
        count, taps, channels = rows.shape
        parts = rows.reshape(count, taps, self.layer.groups, channels // self.layer.groups)
        result: Array = parts.transpose(2, 0, 1, 3).reshape(self.layer.groups, count, -1)
        return result

    def _taps(self, values: Array) -> list[Array]:
        if self.window is None:
            rows: Array = values.reshape(-1, values.shape[-1])
            return [rows]
        return self.window.taps(np.moveaxis(values, self.layer.data_axis, -1)[0])
