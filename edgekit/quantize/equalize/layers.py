"""What equalization has to know of an op, whichever format it came in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgekit.quantize.graph import Graph

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Passage:
    """A positively homogeneous op, f(s * x) = s * f(x) for s > 0, that works on every channel alone.

    ``move``: keep (axes stay; with ``axes``, works along all but that one), reshape, permute (by ``axes``), reduce
    (drops ``axes``) or reduce-keep.
    ``cap``: the value an activation cuts at, where it is homogeneous no more.
    """

    move: str = "keep"
    axes: tuple[int, ...] = ()
    activates: bool = False
    cap: float = math.inf


@dataclass(frozen=True)
class Layer:
    """An op with constant weights, its bias ("" if none) and what it does right after.

    ``data_axis``: where its input and output have their channels. ``matrix``: it reads rows of its input, which
    may be flattened pictures. ``activation`` is None for one that is not positively homogeneous.
    """

    output: str
    weight: str
    bias: str
    output_axis: int
    input_axis: int
    groups: int = 1
    data_axis: int = -1
    matrix: bool = False
    activation: Passage | None = Passage()


@dataclass(frozen=True)
class Window:
    """How a convolution slides over (height, width): kernel, strides, dilations, zeros (before, after) per axis."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    padding: tuple[tuple[int, int], tuple[int, int]]

    @classmethod
    def same(
        cls, kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int], size: tuple[int, int]
    ) -> Window:
        """Pad so that an output of ceil(size / stride) comes out, the odd zero behind: TensorFlow's SAME."""
        padding = []
        for length, step, dilation, extent in zip(kernel, strides, dilations, size, strict=True):
            total = max(0, (-(-extent // step) - 1) * step + (length - 1) * dilation + 1 - extent)
            padding.append((total // 2, total - total // 2))
        return cls(kernel, strides, dilations, (padding[0], padding[1]))

    def taps(self, picture: Array) -> list[Array]:
        """Return, per kernel position in row-major order, what it reads of an (H, W, C) picture: (rows, C) each."""
        padded = np.pad(picture, (*self.padding, (0, 0)))
        heights, widths = (
            (padded.shape[axis] - (self.kernel[axis] - 1) * self.dilations[axis] - 1) // self.strides[axis] + 1
            for axis in (0, 1)
        )
        found = []
        for y in range(self.kernel[0]):
            for x in range(self.kernel[1]):
                top, left = y * self.dilations[0], x * self.dilations[1]
                rows = slice(top, top + (heights - 1) * self.strides[0] + 1, self.strides[0])
                columns = slice(left, left + (widths - 1) * self.strides[1] + 1, self.strides[1])
                found.append(padded[rows, columns].reshape(heights * widths, -1))
        return found


class ModelFile(Protocol):
    """A float model whose weights can be replaced by others of the same shape."""

    graph: Graph

    def shape(self, tensor: str) -> Shape | None:
        """Return the shape, None where it is not fixed."""

    def layer(self, position: int) -> Layer | None:
        """Return the op as a layer if it is one that can be rescaled."""

    def window(self, position: int) -> Window | None:
        """Return how a layer slides over its input, None for one that reads rows, or for no layer."""

    def passage(self, position: int) -> Passage | None:
        """Return the op as a passage for its first input, if it is one."""

    def is_private(self, tensor: str) -> bool:
        """Tell whether one op alone reads these weights, once, and they can be replaced."""

    def is_single(self, tensor: str) -> bool:
        """Tell whether one op alone reads this activation, once."""

    def array(self, tensor: str) -> Array:
        """Return the weights as float32."""

    def replace(self, tensor: str, values: Array) -> None: ...

    def content(self) -> bytes:
        """Return the file with the weights as they are now."""


@dataclass(frozen=True)
class Channels:
    """Where ``count`` channels lie in a tensor: element k in row-major order is of (k // inner) % count."""

    count: int
    inner: int
    shape: Shape

    @property
    def axis(self) -> int | None:
        """The axis that is the channels, None where a reshape has mixed it with others."""
        found = [
            axis
            for axis, size in enumerate(self.shape)
            if size == self.count and math.prod(self.shape[axis + 1 :]) == self.inner
        ]
        return found[0] if len(found) == 1 and self.count > 1 else None

    @classmethod
    def at(cls, axis: int, shape: Shape) -> Channels:
        axis %= len(shape)
        return cls(shape[axis], math.prod(shape[axis + 1 :]), shape)

    def through(self, passage: Passage, shape: Shape) -> Channels | None:
        """Return where the channels lie behind an op that writes ``shape``; None if they are lost."""
        if passage.move == "reshape":
            fits = math.prod(shape) == math.prod(self.shape)
            return Channels(self.count, self.inner, shape) if fits else None
        axis = self.axis
        if axis is None:
            return None
        axes = tuple(a % len(self.shape) for a in passage.axes)
        if passage.move == "keep" and axes and axis != axes[0]:
            return None
        if passage.move == "permute":
            axis = axes.index(axis)
        elif passage.move.startswith("reduce"):
            if axis in axes:
                return None
            axis -= 0 if passage.move == "reduce-keep" else sum(a < axis for a in axes)
        behind = Channels.at(axis, shape) if axis < len(shape) else None
        return behind if behind is not None and behind.count == self.count else None

    def columns(self, length: int) -> npt.NDArray[np.int64] | None:
        """Return the channel of every column (length,) when the tensor is read as rows; None if rows differ."""
        if math.prod(self.shape) % length or length % (self.inner * self.count):
            return None
        return np.arange(length) // self.inner % self.count


def input_channels(layer: Layer, weight: Array) -> int:
    return layer.groups * int(weight.shape[layer.input_axis])


def scale_output(layer: Layer, weight: Array, factors: Array) -> Array:
    """Multiply output channel c of the weights by ``factors[c]``."""
    shape = [1] * weight.ndim
    shape[layer.output_axis] = -1
    return (weight * factors.reshape(shape)).astype(np.float32)


def scale_input(layer: Layer, weight: Array, factors: Array) -> Array:
    """Multiply what the weights make of input channel c by ``factors[c]``, in every group."""
    outputs, inputs = weight.shape[layer.output_axis], weight.shape[layer.input_axis]
    per_group = np.repeat(factors.reshape(layer.groups, inputs), outputs // layer.groups, axis=0)
    shape = [1] * weight.ndim
    shape[layer.output_axis], shape[layer.input_axis] = outputs, inputs
    if layer.output_axis > layer.input_axis:
        per_group = per_group.T
    result: Array = (weight * per_group.reshape(shape)).astype(np.float32)
    return result


def input_weight(layer: Layer, weight: Array, reach: Array) -> Array | None:
    """Return how much weight every input channel has, (C,), relative to what its output channels take in all.

    ``reach``: largest magnitude per input channel. None where every channel has a scale of weights for itself.
    """
    outputs, inputs = weight.shape[layer.output_axis], weight.shape[layer.input_axis]
    if inputs == 1:
        return None
    largest = np.abs(np.moveaxis(weight, (layer.output_axis, layer.input_axis), (0, 1)))
    largest = largest.reshape(layer.groups, outputs // layer.groups, inputs, -1).max(axis=3)
    taken = (largest * reach.reshape(layer.groups, 1, inputs)).max(axis=2, keepdims=True)
    share = np.divide(largest, taken, out=np.zeros_like(largest, np.float64), where=taken > 0)
    result: Array = share.mean(axis=1).reshape(-1)
    return result
