"""Rows of a linear layer: what the kernel sees at some positions of its output (im2col, sampled)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Window:
    """How a kernel steps over its input; a dense layer is a kernel of one position."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: str

    def features(self, channels: int) -> int:
        return math.prod(self.kernel) * channels

    def rows(self, given: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
        """Return (batch x positions, kernel positions x channels), ordered like the flattened kernel.

        positions: (P,) places in the flattened output grid.
        """
        sizes = tuple(int(size) for size in given.shape[1:-1])
        channels = int(given.shape[-1])
        if not self.kernel:  # dense: every position but the batch's is a row of its own
            flat = tf.reshape(given, (tf.shape(given)[0], math.prod(sizes), channels))
            return tf.reshape(tf.gather(flat, positions, axis=1), (-1, channels))
        pads, outputs = zip(*map(self._span, sizes, range(len(sizes))), strict=True)
        padded = tf.pad(given, ((0, 0), *pads, (0, 0)))
        grid = tuple(size + before + after for size, (before, after) in zip(sizes, pads, strict=True))
        steps = np.array([math.prod(grid[axis + 1 :]) for axis in range(len(grid))], np.int64)
        offsets = np.indices(self.kernel).reshape(len(grid), -1) * np.array(self.dilation)[:, None]
        places = tf.unravel_index(positions, outputs)
        corners = tf.reduce_sum(places * (np.array(self.strides) * steps)[:, None], axis=0)
        index = corners[:, None] + (offsets * steps[:, None]).sum(axis=0)[None]
        flat = tf.reshape(padded, (tf.shape(padded)[0], math.prod(grid), channels))
        return tf.reshape(tf.gather(flat, index, axis=1), (-1, self.features(channels)))

    def positions(self, shape: tuple[int, ...]) -> int:
        """Count the output positions for an input of this shape, its batch included."""
        sizes = shape[1:-1]
        return math.prod(self._span(size, axis)[1] if self.kernel else size for axis, size in enumerate(sizes))

    def _span(self, size: int, axis: int) -> tuple[tuple[int, int], int]:
        """Return the zeros before and after one axis, and how many outputs it has."""
        reach, stride = (self.kernel[axis] - 1) * self.dilation[axis] + 1, self.strides[axis]
        if self.padding == "same":
            count = -(-size // stride)
            missing = max((count - 1) * stride + reach - size, 0)
            return (missing // 2, missing - missing // 2), count
        before = reach - 1 if self.padding == "causal" else 0
        return (before, 0), (size + before - reach) // stride + 1


def window_of(layer: Any) -> Window | None:
    """Return how a layer reads its input, or None where it is not a plain convolution or dense layer."""
    kind = type(layer)
    if kind is keras.layers.Dense:
        return Window((), (), (), "valid")
    convolution = kind in (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    if not convolution or layer.groups != 1 or layer.data_format != "channels_last":
        return None
    return Window(tuple(layer.kernel_size), tuple(layer.strides), tuple(layer.dilation_rate), layer.padding)
