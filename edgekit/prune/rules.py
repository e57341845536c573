"""How channels pass through each Keras operation: one small rule per kind, named in RULES by class name.

Tensors are channels-last. A rule returns one vector of channel ids per output. A layer or op of the same name
(keras.layers.Add, keras.ops.add) behaves alike, so one entry serves both. A class missing here is frozen.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from edgekit.prune.channels import IntArray
from edgekit.prune.recorder import Call, opaque, positions

Rule = Callable[[Call], list[IntArray]]

# Activations that treat every channel alone. Softmax and glu mix channels and are absent on purpose.
_ACTIVATION_NAMES = """
celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear
log_sigmoid mish relu relu6 selu sigmoid silu soft_shrink softplus softsign squareplus swish tanh
tanh_shrink threshold
"""
ELEMENTWISE_ACTIVATIONS = frozenset(_ACTIVATION_NAMES.split())


def _plain_layer(call: Call) -> str | None:
    """Return why a layer with a kernel cannot be sliced, or None."""
    layer = call.operation
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return "data_format is channels_first"
    if getattr(layer, "groups", 1) != 1:
        return f"grouped convolution ({layer.groups} groups)"
    if getattr(layer, "quantization_mode", None) is not None or getattr(layer, "lora_enabled", False):
        return "its kernel is quantized or has LoRA weights"
    return None


def _activated(call: Call, ids: IntArray) -> list[IntArray]:
    """Freeze the channels a layer makes where its built-in activation mixes them."""
    name = getattr(call.operation.activation, "__name__", str(call.operation.activation))
    if name not in ELEMENTWISE_ACTIVATIONS:
        call.recorder.channels.freeze(ids, f"goes through the activation '{name}', which may mix channels")
    return [ids]


def _convolution(call: Call) -> list[IntArray]:
    layer, source, target = call.operation, call.inputs[0], call.output_shapes[0]
    transposed = type(layer).__name__.endswith("Transpose")
    area = math.prod(layer.kernel_size) * positions(source.shape if transposed else target)
    problem = _plain_layer(call)
    if problem is not None:
        channels = math.prod(layer.kernel.shape[-2:])
        call.recorder.cost(call.key, area * channels, None, None)
        return opaque(call, problem)
    made = call.recorder.produce(call.key, layer.filters)
    into, out = (-1, -2) if transposed else (-2, -1)
    rank = len(layer.kernel.shape)
    call.axis("kernel", rank + into, "in", source.ids)
    call.axis("kernel", rank + out, "out", made)
    call.axis("bias", 0, "through", made)
    call.recorder.field(call.key, "filters", None, made)
    call.recorder.cost(call.key, area, source.ids, made)
    return _activated(call, made)


def _depthwise(call: Call) -> list[IntArray]:
    layer, source = call.operation, call.inputs[0]
    problem = _plain_layer(call)
    if problem is not None:
        return opaque(call, problem)
    spread = np.repeat(source.ids, layer.depth_multiplier)
    call.axis("kernel", len(layer.kernel.shape) - 2, "through", source.ids)
    call.axis("bias", 0, "through", spread)
    area = math.prod(layer.kernel_size) * positions(call.output_shapes[0])
    call.recorder.cost(call.key, area, None, spread)
    return _activated(call, spread)


def _separable(call: Call) -> list[IntArray]:
    layer, source = call.operation, call.inputs[0]
    problem = _plain_layer(call)
    if problem is not None:
        return opaque(call, problem)
    spread = np.repeat(source.ids, layer.depth_multiplier)
    made = call.recorder.produce(call.key, layer.filters)
    rank = len(layer.pointwise_kernel.shape)
    call.axis("depthwise_kernel", rank - 2, "through", source.ids)
    call.axis("pointwise_kernel", rank - 2, "in", spread)
    call.axis("pointwise_kernel", rank - 1, "out", made)
    call.axis("bias", 0, "through", made)
    call.recorder.field(call.key, "filters", None, made)
    area = positions(call.output_shapes[0])
    call.recorder.cost(call.key, area * math.prod(layer.kernel_size), None, spread)
    call.recorder.cost(call.key, area, spread, made)
    return _activated(call, made)


def _dense(call: Call) -> list[IntArray]:
    layer, source = call.operation, call.inputs[0]
    problem = _plain_layer(call)
    if problem is not None:
        return opaque(call, problem)
    made = call.recorder.produce(call.key, layer.units)
    call.axis("kernel", 0, "in", source.ids)
    call.axis("kernel", 1, "out", made)
    call.axis("bias", 0, "through", made)
    call.recorder.field(call.key, "units", None, made)
    call.recorder.cost(call.key, positions(call.output_shapes[0]), source.ids, made)
    return _activated(call, made)


def _batch_norm(call: Call) -> list[IntArray]:
    source = call.inputs[0]
    if call.operation.axis not in (-1, len(source.shape) - 1):
        return opaque(call, "normalizes another axis than the last")
    call.axis("gamma", 0, "scale", source.ids)
    for name in ("beta", "moving_mean", "moving_variance"):
        call.axis(name, 0, "through", source.ids)
    return [source.ids]


def _prelu(call: Call) -> list[IntArray]:
    alpha = call.operation.alpha.shape
    if alpha[-1] == len(call.inputs[0].ids):
        call.axis("alpha", len(alpha) - 1, "through", call.inputs[0].ids)
    return [call.inputs[0].ids]


def _attention(call: Call) -> list[IntArray]:
    """Freeze multi-head attention, but count it: the projections and the two products."""
    layer, query = call.operation, call.inputs[0].shape
    length, width = query[1] or 1, query[-1] or 1
    key_dim, value_dim = layer.num_heads * layer.key_dim, layer.num_heads * (layer.value_dim or layer.key_dim)
    call.recorder.cost(call.key, length * 2 * width * (key_dim + value_dim), None, None)
    call.recorder.cost(call.key, length * length * (key_dim + value_dim), None, None)
    return opaque(call, "attention mixes channels")


def _passes(call: Call) -> list[IntArray]:
    """Keep channels as they are (activations, pooling, resizing, padding over space, dropout)."""
    if getattr(call.operation, "data_format", "channels_last") == "channels_first":
        return opaque(call, "data_format is channels_first")
    if len(call.inputs) != 1 or call.output_shapes[0][-1] != len(call.inputs[0].ids):
        return opaque(call, f"{type(call.operation).__name__} changes the channels")
    return [call.inputs[0].ids]


def _activation(call: Call) -> list[IntArray]:
    return _activated(call, call.inputs[0].ids)


def _rescaling(call: Call) -> list[IntArray]:
    if np.ndim(call.operation.scale) or np.ndim(call.operation.offset):
        return opaque(call, "rescales each channel by its own constant")
    return _passes(call)


def _along_axis(call: Call) -> list[IntArray]:
    """Pass channels through an operation over some axes, unless the last is one (softmax, mean)."""
    axis, rank = call.operation.axis, len(call.inputs[0].shape)
    axes = range(rank) if axis is None else np.atleast_1d(axis).tolist()
    if any(one % rank == rank - 1 for one in axes):
        return opaque(call, f"{type(call.operation).__name__} works across channels")
    return _passes(call)


def _couples(call: Call) -> list[IntArray]:
    """Couple the operands of an element-wise operation channel by channel (add, multiply, maximum ...)."""
    width = call.output_shapes[0][-1] if len(call.output_shapes[0]) > 1 else 0
    wide = [flow.ids for flow in call.inputs if len(flow.ids) == width]
    narrow = [flow.ids for flow in call.inputs if len(flow.ids) != width]
    if not wide or any(len(ids) > 1 for ids in narrow):
        return opaque(call, "operands of different widths")
    for ids in wide[1:]:
        call.recorder.channels.couple(wide[0], ids)
    for ids in narrow:
        call.recorder.channels.freeze(ids, f"is broadcast over the channels of '{call.key}'")
    if any(shape and shape[-1] != 1 for shape in _constant_shapes(call)):
        call.recorder.channels.freeze(wide[0], f"meets a constant with one value per channel in '{call.key}'")
    return [wide[0]]


def _constant_shapes(call: Call) -> list[tuple[int, ...]]:
    """Return the shapes of the plain numbers and arrays an operation was called with."""
    shapes = []
    for value in (*call.args, *call.kwargs.values()):
        leaves = keras.tree.flatten(value)
        if not any(isinstance(leaf, keras.KerasTensor) for leaf in leaves):
            shapes.append(tuple(np.shape(value)))
    return shapes


def _concatenate(call: Call) -> list[IntArray]:
    rank = len(call.inputs[0].shape)
    if call.operation.axis % rank != rank - 1:
        return _couples(call)
    joined = np.concatenate([flow.ids for flow in call.inputs])
    return [joined] if len(joined) == call.output_shapes[0][-1] else opaque(call, "joins a constant")


def _reshape(call: Call) -> list[IntArray]:
    """Follow ids through a reshape; it is prunable where every position still shows the same channels."""
    source, target = call.inputs[0], call.output_shapes[0]
    inner = source.shape[1:]
    if len(source.shape) < 2 or len(target) < 2 or target[-1] is None:
        return opaque(call, "its last axis has no fixed size")
    if target[-1] == len(source.ids):
        ids = source.ids
    elif None in inner or None in target[1:] or math.prod(target[1:]) != math.prod(inner):  # type: ignore[arg-type]
        return opaque(call, "reshapes unknown sizes")
    else:
        rows = np.broadcast_to(source.ids, inner).reshape(-1, target[-1])  # type: ignore[arg-type]
        if not (rows == rows[0]).all():
            return opaque(call, "spreads channels over positions")
        ids = rows[0]
    for name in ("target_shape", "newshape"):
        shape = getattr(call.operation, name, None)
        if shape is not None and np.atleast_1d(shape)[-1] != -1:
            call.recorder.field(call.key, name, -1, ids)
    return [ids]


def _flatten(call: Call) -> list[IntArray]:
    if getattr(call.operation, "data_format", "channels_last") == "channels_first":
        return opaque(call, "data_format is channels_first")
    return _reshape(call)


def _transpose(call: Call) -> list[IntArray]:
    rank = len(call.inputs[0].shape)
    axes = getattr(call.operation, "dims", None) or getattr(call.operation, "axes", None)
    last = rank if hasattr(call.operation, "dims") else rank - 1  # Permute counts its axes from 1
    return _passes(call) if axes is not None and axes[-1] in (last, -1) else opaque(call, "moves the channel axis")


def _expand(call: Call) -> list[IntArray]:
    axes = np.atleast_1d(call.operation.axis).tolist()
    rank = len(call.output_shapes[0])
    return opaque(call, "moves the channel axis") if any(one % rank == rank - 1 for one in axes) else _passes(call)


def _get_item(call: Call) -> list[IntArray]:
    key: Any = call.args[1] if len(call.args) > 1 else call.kwargs.get("key")
    parts = key if isinstance(key, tuple) else (key,)
    if any(part is None or isinstance(part, keras.KerasTensor) for part in parts):
        return opaque(call, "indexes with new axes or tensors")
    whole = parts[-1] is Ellipsis or parts[-1] == slice(None)
    if Ellipsis not in parts and len(parts) < len(call.inputs[0].shape):
        whole = True
    return _passes(call) if whole else opaque(call, "slices channels")


_PASSING = """
ActivityRegularization AlphaDropout Dropout ELU GaussianDropout GaussianNoise Identity LeakyReLU ReLU
SpatialDropout1D SpatialDropout2D SpatialDropout3D
AveragePooling1D AveragePooling2D AveragePooling3D MaxPooling1D MaxPooling2D MaxPooling3D
GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
Cropping1D Cropping2D Cropping3D Resizing
Abs Absolute AveragePool Cast Ceil Celu Clip Copy Elu Erf Exp Exp2 Expm1 Floor Gelu HardSigmoid HardSilu
HardShrink HardTanh LeakyRelu Log Log10 Log1p Log2 LogSigmoid MaxPool Negative Reciprocal Relu Relu6 Round
Rsqrt Selu Sigmoid Sign Silu SoftShrink Softplus Softsign Sqrt Square Squareplus StopGradient
Tanh TanhShrink
"""
_COUPLING = """
Add Average Divide Maximum Minimum Multiply Subtract
DivideNoNan FloorDivide Mod Power TrueDivide SquaredDifference
"""

RULES: dict[str, Rule] = {
    **dict.fromkeys(_PASSING.split(), _passes),
    **dict.fromkeys(_COUPLING.split(), _couples),
    **dict.fromkeys(["Conv1D", "Conv2D", "Conv3D"], _convolution),
    **dict.fromkeys(["Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"], _convolution),
    **dict.fromkeys(["DepthwiseConv1D", "DepthwiseConv2D"], _depthwise),
    **dict.fromkeys(["SeparableConv1D", "SeparableConv2D"], _separable),
    **dict.fromkeys(["Softmax", "LogSoftmax", "Mean", "Max", "Min", "Sum", "Squeeze"], _along_axis),
    **dict.fromkeys(["Permute", "Transpose"], _transpose),
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "PReLU": _prelu,
    "MultiHeadAttention": _attention,
    "Activation": _activation,
    "Rescaling": _rescaling,
    "Concatenate": _concatenate,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "ExpandDims": _expand,
    "GetItem": _get_item,
}
