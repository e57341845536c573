"""Choose the factor of every channel and write them into the weights of both layers of a pair.

After Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), but between the
calibrated ranges of the activations and the consumer's weights: int8 weights have a scale per output channel, so
the producer's need no help, nor do those of a depthwise consumer. Making the activations even at any price
raised the error of a healthy detector's scores by 5 to 7 %; with chosen ranges the balance does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit.errors import StageError
from edgekit.quantize.equalize.layers import Array, ModelFile, input_weight, scale_input, scale_output
from edgekit.quantize.equalize.onnx_weights import OnnxFile
from edgekit.quantize.equalize.pairs import Pair, find_pairs
from edgekit.quantize.equalize.tflite_weights import TfliteFile
from edgekit.quantize.observers import TensorStatistics

FILES: dict[str, Callable[[Path], ModelFile]] = {"tflite": TfliteFile, "onnx": OnnxFile}
_LIMIT = 1000.0  # beyond, the factor itself would cost float32 accuracy
_DEAD = 1e-6  # of the tensor's range: such a channel carries nothing, and would be made of rounding noise
_HEADROOM = 0.8  # of a capped activation: other samples reach further than the calibrated ones
_SATURATED = 1 - 1e-6  # of the cap
_ALREADY_EVEN = 1.01  # largest factor
_ACTIVATION_STEPS, _WEIGHT_STEPS = 255, 127
_BIAS_LIMIT = 2**30  # int32, with a bit to spare for what is added to it


@dataclass(frozen=True)
class Equalized:
    """One activation whose channels were rescaled between two layers, which are named by their outputs.

    ``uneven_before``, ``uneven_after``: largest channel range over the geometric mean of all live ones; 1 is even.
    """

    tensor: str
    producer: str
    consumer: str
    channels: int
    uneven_before: float
    uneven_after: float


def equalize(path: Path, format: str, statistics: Mapping[str, TensorStatistics]) -> tuple[bytes, list[Equalized]]:
    """Return the float model, ``format`` tflite or onnx, with equalized channels, and what was equalized.

    Its outputs stay the same but for rounding; ``statistics`` (of ``calibrate.observe``) hold no longer, so
    observe it anew. Pairs whose consumer could not hold its bias in int32 are left alone; without any pair the
    file comes back byte for byte. Raises StageError for a broken file and for statistics of another model.
    """
    model = FILES[format](path)
    if not model.graph.floats & statistics.keys():
        raise StageError(f"the statistics are not of {path.name}", "Observe the same float model.")
    done = []
    for pair in list(find_pairs(model)):
        reach = _reach(pair, statistics.get(pair.tensor))
        if reach is None:
            continue
        factors = channel_factors(reach, _weight(model, pair, reach), pair.cap)
        if max(factors.max(), (1 / factors).max()) < _ALREADY_EVEN or _bias_overflows(model, pair, reach, factors):
            continue
        _apply(model, pair, factors)
        done.append(
            Equalized(
                pair.tensor,
                pair.producer.output,
                pair.consumer.output,
                len(factors),
                unevenness(reach),
                unevenness(reach / factors),
            )
        )
    return (model.content() if done else path.read_bytes()), done


def channel_factors(reach: Array, weight: Array | None = None, cap: float = math.inf) -> Array:
    """Return what every channel is divided by, (C,), so that all use the tensor's range.

    ``reach``: largest magnitude per channel. ``weight``: that of the consumer's weights on it, where channels
    share their scale; then reach and weight are made equally uneven, since what evens out one roughens the other.
    Below a ``cap`` channels keep headroom to it, and those that reach it stay as they are: the cut would come
    elsewhere.
    """
    largest = float(reach.max())
    even = np.full(len(reach), largest) if weight is None else np.sqrt(reach * weight)
    live = (reach > _DEAD * largest) & (even > 0)
    if not live.any():
        return np.ones(len(reach))
    target = np.where(live, even * (largest / even[live].max()), reach)
    if math.isfinite(cap):
        target = np.where(reach < _SATURATED * cap, np.maximum(np.minimum(target, _HEADROOM * cap), reach), reach)
    factors = np.divide(reach, target, out=np.ones(len(reach)), where=live)
    if weight is not None and math.isinf(cap):
        # Left as they are, weights on channels that never fired would now outweigh, and coarsen, all others. Under
        # a cap they are left: nobody knows how far such a channel reaches when it does fire.
        ordinary = np.median((weight * factors)[live])
        factors = np.where(live | (weight * factors <= ordinary), factors, ordinary / np.maximum(weight, ordinary))
    return np.clip(factors, 1 / _LIMIT, _LIMIT)


def unevenness(reach: Array) -> float:
    """Return the largest range over the geometric mean of the live ones."""
    live = reach[reach > _DEAD * reach.max()]
    return float(live.max() / np.exp(np.log(live).mean())) if live.size else 1.0


def _reach(pair: Pair, statistics: TensorStatistics | None) -> Array | None:
    if statistics is None or statistics.channel_low is None or statistics.channel_high is None:
        return None
    if statistics.channel_axis % pair.rank != pair.axis:
        return None
    return np.maximum(np.abs(statistics.channel_low), np.abs(statistics.channel_high)).astype(np.float64)


def _weight(model: ModelFile, pair: Pair, reach: Array) -> Array | None:
    """Return the consumer's weight on every channel of the producer; flattened pictures have many columns of each."""
    by_column = input_weight(pair.consumer, model.array(pair.consumer.weight), reach[pair.columns])
    if by_column is None:
        return None
    found = np.zeros(len(reach))
    np.maximum.at(found, pair.columns, by_column)
    return found


def _bias_overflows(model: ModelFile, pair: Pair, reach: Array, factors: Array) -> bool:
    """Tell whether the consumer's bias would leave int32 because its weights become small.

    Its unit is the product of both scales. Gates whose inputs hardly matter have such weights: the bias is all.
    """
    layer = pair.consumer
    if not layer.bias or layer.bias not in model.graph.constants:
        return False
    before = model.array(layer.weight)
    after = scale_input(layer, before, factors[pair.columns])
    others = tuple(axis for axis in range(before.ndim) if axis != layer.output_axis)
    largest_before, largest_after = (np.abs(weight).max(axis=others) for weight in (before, after))
    unit = (reach / factors).max() / _ACTIVATION_STEPS * largest_after / _WEIGHT_STEPS
    too_large = np.abs(model.array(layer.bias).reshape(-1)) > _BIAS_LIMIT * unit
    return bool((too_large & (largest_after < largest_before)).any())


def _apply(model: ModelFile, pair: Pair, factors: Array) -> None:
    producer, consumer = pair.producer, pair.consumer
    model.replace(producer.weight, scale_output(producer, model.array(producer.weight), 1 / factors))
    if producer.bias and model.is_private(producer.bias):
        bias = model.array(producer.bias)
        model.replace(producer.bias, (bias.reshape(-1) / factors).astype(np.float32).reshape(bias.shape))
    weight = model.array(consumer.weight)
    model.replace(consumer.weight, scale_input(consumer, weight, factors[pair.columns]))
