"""Give dead channels a weight scale their bias can live with.

The int8 bias is stored as int32 in steps of input scale times weight scale. Where training drove a channel's weights
to nothing, that step is so small that the bias leaves int32, and a gate that should be 0.9 becomes exactly 0.
TFLite's quantizers have no guard; ONNX Runtime's raises the weight scale itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.quantize.equalize.layers import Array, ModelFile
from edgekit.quantize.equalize.tflite_weights import TfliteFile
from edgekit.quantize.plan import Ranges

_STEPS = 127
_LARGEST_BIAS = 2.0**30  # half of int32: the sum of products needs room too
_WIDE = 255


@dataclass(frozen=True)
class Guarded:
    """A layer, named by its output, with how many of its channels were too small for their bias."""

    layer: str
    channels: int


def guard(path: Path, ranges: Mapping[str, tuple[float, float]] | Ranges) -> tuple[bytes, list[Guarded]]:
    """Return a float .tflite in which every channel's largest weight is big enough for its bias, and what changed.

    One weight of such a channel is raised: the layer's output moves by less than 1e-4 of the bias. Without such a
    channel the file comes back byte for byte.
    """
    model: ModelFile = TfliteFile(path)
    done = []
    for position, op in enumerate(model.graph.ops):
        layer = model.layer(position)
        if layer is None or not layer.bias or op.inputs[0] not in ranges or not model.is_private(layer.weight):
            continue
        low, high = ranges[op.inputs[0]]
        step = (max(high, 0.0) - min(low, 0.0)) / _WIDE
        if step <= 0:
            continue
        weight = np.moveaxis(model.array(layer.weight).copy(), layer.output_axis, 0)
        small = _raise(weight, model.array(layer.bias).reshape(-1), step)
        if small:
            model.replace(layer.weight, np.moveaxis(weight, 0, layer.output_axis))
            done.append(Guarded(layer.output, small))
    return (model.content() if done else path.read_bytes()), done


def _raise(weight: Array, bias: Array, step: float) -> int:
    """Raise the first weight of every channel (first axis) that is too small, in place; return how many were."""
    needed = np.abs(bias) / (step * _LARGEST_BIAS) * _STEPS
    largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
    small = np.nonzero(largest < needed)[0] if len(needed) == len(weight) else np.zeros(0, np.int64)
    for channel in small:
        first = np.unravel_index(0, weight[channel].shape)
        weight[channel][first] = needed[channel]
    return len(small)
