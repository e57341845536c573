"""Operations that treat every channel alone, or join tensors channel by channel."""

from __future__ import annotations

import keras
import numpy as np

from edgekit.prune.channels import IntArray
from edgekit.prune.recorder import Call, Rule, opaque

# Activations that treat every channel alone. Softmax and glu mix channels and are absent on purpose.
_ACTIVATION_NAMES = """
celu elu exponential gelu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear
log_sigmoid mish relu relu6 selu sigmoid silu soft_shrink softplus softsign squareplus swish tanh
tanh_shrink threshold
"""
ELEMENTWISE_ACTIVATIONS = frozenset(_ACTIVATION_NAMES.split())


def activated(call: Call, ids: IntArray) -> list[IntArray]:
    """Freeze the channels a layer makes where its built-in activation mixes them."""
    name = getattr(call.operation.activation, "__name__", str(call.operation.activation))
    if name not in ELEMENTWISE_ACTIVATIONS:
        call.recorder.channels.freeze(ids, f"goes through the activation '{name}', which may mix channels")
    return [ids]


def passes(call: Call) -> list[IntArray]:
    """Keep channels as they are (activations, pooling, resizing, padding over space, dropout)."""
    if getattr(call.operation, "data_format", "channels_last") == "channels_first":
        return opaque(call, "data_format is channels_first")
    if len(call.inputs) != 1 or call.output_shapes[0][-1] != len(call.inputs[0].ids):
        return opaque(call, f"{type(call.operation).__name__} changes the channels")
    return [call.inputs[0].ids]


def _activation(call: Call) -> list[IntArray]:
    return activated(call, call.inputs[0].ids)


def _rescaling(call: Call) -> list[IntArray]:
    if np.ndim(call.operation.scale) or np.ndim(call.operation.offset):
        return opaque(call, "rescales each channel by its own constant")
    return passes(call)


def _along_axis(call: Call) -> list[IntArray]:
    """Pass channels through an operation over some axes, unless the last is one (softmax, mean)."""
    axis, rank = call.operation.axis, len(call.inputs[0].shape)
    axes = range(rank) if axis is None else np.atleast_1d(axis).tolist()
    if any(one % rank == rank - 1 for one in axes):
        return opaque(call, f"{type(call.operation).__name__} works across channels")
    return passes(call)


def couples(call: Call) -> list[IntArray]:
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
    **dict.fromkeys(_PASSING.split(), passes),
    **dict.fromkeys(_COUPLING.split(), couples),
    **dict.fromkeys(["Softmax", "LogSoftmax", "Mean", "Max", "Min", "Sum", "Squeeze"], _along_axis),
    "Activation": _activation,
    "Rescaling": _rescaling,
}
