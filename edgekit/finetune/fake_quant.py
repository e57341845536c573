"""Int8 in float: which values a deployed graph rounds, and rounding that lets gradients through.

Weights have one symmetric scale per output channel. A batch norm behind a layer multiplies those channels only,
so rounding before it is rounding after folding it, and nothing has to be folded while training.
Rounding is written out here because TensorFlow's own fake-quant ops have no deterministic gradient.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import keras
import tensorflow as tf

from edgekit.finetune.program import Call, Program

_STEPS = 255.0
_LARGEST = 127.0
_SMALLEST_RANGE = 1e-8

Axes = dict[str, tuple[int, ...]]
"""The axes of each kernel of a layer that are output channels."""

_LAST: Axes = {"kernel": (-1,)}
_TRANSPOSED: Axes = {"kernel": (-2,)}
_DEPTHWISE: Axes = {"kernel": (-2, -1)}
_SEPARABLE: Axes = {"depthwise_kernel": (-2, -1), "pointwise_kernel": (-1,)}
_CHANNEL_AXES: dict[str, Axes] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "Dense"), _LAST),
    **dict.fromkeys(("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), _TRANSPOSED),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _DEPTHWISE),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _SEPARABLE),
}
_EINSUM = "EinsumDense"
# Unweighted operations with an int8 form, layers and functions alike. What only moves values rounds nothing.
_COMPUTES_IN_INT8 = frozenset(
    {
        *("Add", "Subtract", "Multiply", "Average", "Concatenate", "BatchNormalization", "ReLU", "Relu", "Relu6"),
        *("AveragePooling1D", "AveragePooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D", "Mean"),
        *("UpSampling2D", "Resizing", "Maximum"),
    }
)
_RELU = frozenset({"ReLU", "Relu", "Relu6"})
_ATTENTION = frozenset({"MultiHeadAttention", "GroupedQueryAttention", "Attention", "LayerNormalization"})


def rounded_activation(values: tf.Tensor, low: tf.Tensor, high: tf.Tensor) -> tf.Tensor:
    """Round to 256 even steps from ``low`` to ``high``, one of them exactly 0; clipped values get no gradient."""
    low, high = tf.minimum(low, 0.0), tf.maximum(high, 0.0)
    scale = tf.maximum(high - low, _SMALLEST_RANGE) / _STEPS
    zero = tf.round(-low / scale)
    clipped = tf.clip_by_value(values, -zero * scale, (_STEPS - zero) * scale)
    return clipped + tf.stop_gradient(tf.round(clipped / scale) * scale - clipped)


def rounded_kernel(kernel: tf.Tensor, channel_axes: tuple[int, ...]) -> tf.Tensor:
    """Round to -127..127 times a scale per output channel; gradients pass unchanged."""
    rank = len(kernel.shape)
    kept = {axis % rank for axis in channel_axes}
    summed = [axis for axis in range(rank) if axis not in kept]
    largest = tf.reduce_max(tf.abs(kernel), axis=summed, keepdims=True)
    scale = tf.maximum(largest, _SMALLEST_RANGE) / _LARGEST
    return kernel + tf.stop_gradient(tf.round(kernel / scale) * scale - kernel)


def kernels(
    model: keras.Model, program: Program, left_float: Collection[str] = ()
) -> Iterator[tuple[keras.Variable, tuple[int, ...]]]:
    """Yield every kernel that becomes int8, with its output channel axes; ``left_float`` as for rounded values."""
    spared = {id(program.calls[position].operation) for position in _left_float(program, left_float)}
    for layer in model._flatten_layers(include_self=False):
        axes = {} if id(layer) in spared else _channel_axes(layer)
        for weight in layer.weights if axes else ():
            if weight.name in axes:
                yield weight, axes[weight.name]


def _channel_axes(layer: Any) -> Axes:
    name = type(layer).__name__
    if name != _EINSUM:
        return _CHANNEL_AXES.get(name, {})
    read, made = layer.equation.split("->")
    return {"kernel": tuple(axis for axis, letter in enumerate(read.split(",")[1]) if letter in made)}


def rounded_values(program: Program, left_float: Collection[str] = ()) -> tuple[int, ...]:
    """Return the values that an int8 graph rounds: what int8 operations read and write, but for what is fused.

    ``left_float``: names of layers that stay float, with what is fused to them.

    Normalization before the first weighted operation and decoding after the last stay float. Attention networks
    quantize activations while running, each with its own range: there, none is rounded.
    """
    if any(_name(call) in _ATTENTION for call in program.calls):
        return ()
    chosen: set[int] = set()
    inside = _after_weights(program) & _before_weights(program)
    spared = _left_float(program, left_float)
    for position, call in enumerate(program.calls):
        if position in spared:
            continue
        if _weighted(call) or (position in inside and _computes_in_int8(call)):
            chosen |= {*call.inputs, *call.outputs}
    return tuple(sorted(chosen - _fused(program)))


def _after_weights(program: Program) -> set[int]:
    made: set[int] = set()
    found = set()
    for position, call in enumerate(program.calls):
        if _weighted(call) or made & set(call.inputs):
            made |= set(call.outputs)
            found.add(position)
    return found


def _before_weights(program: Program) -> set[int]:
    needed: set[int] = set()
    found = set()
    for position, call in reversed(list(enumerate(program.calls))):
        if _weighted(call) or needed & set(call.outputs):
            needed |= set(call.inputs)
            found.add(position)
    return found


def _fused(program: Program) -> set[int]:
    """Return the values that never leave a kernel: between a layer, its batch norm and its ReLU."""
    found: set[int] = set()
    folded: set[int] = set()  # outputs of batch norms that are part of the layer before
    for call in program.calls:
        value = call.outputs[0]
        consumers = program.consumers(value)
        if len(consumers) != 1 or value in program.outputs:
            continue
        [following] = consumers
        if _name(following) == "BatchNormalization" and _weighted(call) and _linear(call):
            found.add(value)
            folded |= set(following.outputs)
        elif _is_relu(following) and (_weighted(call) or value in folded or _name(call) == "Add") and _linear(call):
            found.add(value)
    return found


def _left_float(program: Program, names: Collection[str]) -> set[int]:
    """Return the positions of the named calls and of those that are one op with them."""
    fused = _fused(program)
    found: set[int] = set()
    chains: dict[int, list[int]] = {}  # by the value that continues it
    for position, call in enumerate(program.calls):
        chain = next((chains[value] for value in call.inputs if value in chains), [])
        chain.append(position)
        if call.outputs[0] in fused:
            chains[call.outputs[0]] = chain
        if any(str(program.calls[member].operation.name) in names for member in chain):
            found |= set(chain)
    return found


def _name(call: Call) -> str:
    return type(call.operation).__name__


def _weighted(call: Call) -> bool:
    return _name(call) in _CHANNEL_AXES or _name(call) == _EINSUM


def _computes_in_int8(call: Call) -> bool:
    return _name(call) in _COMPUTES_IN_INT8 or _is_relu(call)


def _is_relu(call: Call) -> bool:
    if _name(call) == "Activation":
        return getattr(call.operation.activation, "__name__", "") in ("relu", "relu6")
    return _name(call) in _RELU


def _linear(call: Call) -> bool:
    return getattr(getattr(call.operation, "activation", None), "__name__", "linear") == "linear"
