"""Find pairs of layers with nothing but positively homogeneous ops, read by nobody else, between them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgekit.quantize.equalize.layers import Channels, Layer, ModelFile, input_channels


@dataclass(frozen=True)
class Pair:
    """``columns``: the producer's channel that each input channel of the consumer reads.

    ``tensor`` is the activation between them whose channels are measured, along ``axis`` of ``rank`` axes: the
    first behind the last activation function, which cuts at ``cap``.
    """

    producer: Layer
    consumer: Layer
    columns: npt.NDArray[np.int64]
    tensor: str
    axis: int
    rank: int
    cap: float


def find_pairs(model: ModelFile) -> Iterator[Pair]:
    """Yield the pairs in graph order."""
    for position in range(len(model.graph.ops)):
        producer = model.layer(position)
        if producer is not None and _can_rescale_output(model, producer):
            pair = _follow(model, producer)
            if pair is not None:
                yield pair


def _can_rescale_output(model: ModelFile, layer: Layer) -> bool:
    if layer.activation is None or not model.is_private(layer.weight):
        return False
    # A bias of zeros stays one: converters let all layers share it.
    return not layer.bias or model.is_private(layer.bias) or not model.array(layer.bias).any()


def _follow(model: ModelFile, producer: Layer) -> Pair | None:
    """Go from op to op while the way is single and homogeneous, until a layer reads it."""
    tensor, shape = producer.output, model.shape(producer.output)
    count = model.array(producer.weight).shape[producer.output_axis]
    if shape is None or len(shape) < 2 or shape[producer.data_axis] != count or producer.activation is None:
        return None
    channels: Channels | None = Channels.at(producer.data_axis, shape)
    measured, cap = (tensor, Channels.at(producer.data_axis, shape)), producer.activation.cap
    while channels is not None and model.is_single(tensor):
        position = model.graph.consumers[tensor][0]
        op = model.graph.ops[position]
        if op.inputs[0] != tensor or len(op.outputs) != 1:
            return None
        consumer = model.layer(position)
        if consumer is not None:
            columns = _columns(model, channels, consumer)
            axis = measured[1].axis
            if columns is None or axis is None or not model.is_private(consumer.weight):
                return None
            return Pair(producer, consumer, columns, measured[0], axis, len(measured[1].shape), cap)
        passage, shape = model.passage(position), model.shape(op.outputs[0])
        if passage is None or shape is None:
            return None
        channels, tensor = channels.through(passage, shape), op.outputs[0]
        if passage.activates and channels is not None:
            if math.isfinite(cap):  # the ranges behind this activation say nothing of the cut before it
                return None
            measured, cap = (tensor, channels), passage.cap
    return None


def _columns(model: ModelFile, channels: Channels, consumer: Layer) -> npt.NDArray[np.int64] | None:
    length = input_channels(consumer, model.array(consumer.weight))
    if consumer.matrix:
        return channels.columns(length)
    at_channels = channels.axis == consumer.data_axis % len(channels.shape)
    return np.arange(length) if at_channels and length == channels.count else None
