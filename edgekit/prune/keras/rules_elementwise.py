"""Operations that treat every channel alone, or join tensors channel by channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekit.prune.channels.coupling import IntArray
from edgekit.prune.channels.recorder import Flow, Path
from edgekit.prune.keras.call import Call, Followed, Rule, opaque

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


def passes(call: Call) -> Followed:
    """Keep channels as they are (activations, pooling, resizing, padding over space, dropout)."""
    source, target = call.inputs[0], call.output_shapes[0]
    if getattr(call.operation, "data_format", "channels_last") == "channels_first":
        return opaque(call, "data_format is channels_first")
    if len(call.inputs) != 1 or len(target) < -source.axis or target[source.axis] != len(source.ids):
        return opaque(call, f"{type(call.operation).__name__} changes the channels")
    return [Flow(target, source.ids, source.axis)]


def _activation(call: Call) -> list[IntArray]:
    return activated(call, call.inputs[0].ids)


def _rescaling(call: Call) -> Followed:
    for name in ("scale", "offset"):
        _slice_constant(call, (*call.recorder.config, name), getattr(call.operation, name), call.inputs[0])
    return passes(call)


def _normalization(call: Call) -> Followed:
    """Follow channels through statistics per channel: numbers in the config, or weights found by ``adapt``."""
    layer, source = call.operation, call.inputs[0]
    if tuple(axis % len(source.shape) for axis in np.atleast_1d(layer.axis)) not in ((), (len(source.shape) - 1,)):
        return opaque(call, "normalizes another axis than the last")
    for name, given in (("mean", layer.input_mean), ("variance", layer.input_variance)):
        if given is not None:
            _slice_constant(call, (*call.recorder.config, name), np.asarray(given).tolist(), source)
        elif layer.axis:
            call.axis(name, 0, "through", source.ids)
    return passes(call)


def _along_axis(call: Call) -> Followed:
    """Pass channels through an operation over some axes (softmax, mean), unless theirs is one."""
    source, target = call.inputs[0], call.output_shapes[0]
    if len(call.inputs) != 1:
        return opaque(call, "takes a mask")
    rank = len(source.shape)
    axis = call.operation.axis
    if axis is None:
        squeezes = type(call.operation).__name__ == "Squeeze"
        axis = [one for one in range(rank) if source.shape[one] == 1] if squeezes else list(range(rank))
    axes = {one % rank for one in np.atleast_1d(axis).tolist()}
    if rank + source.axis in axes:
        return opaque(call, f"{type(call.operation).__name__} works across channels")
    gone = sum(one > rank + source.axis for one in axes) if len(target) < rank else 0
    return [Flow(target, source.ids, source.axis + gone)]


def couples(call: Call) -> Followed:
    """Couple the operands of an element-wise operation channel by channel (add, multiply, maximum ...)."""
    target, channels = call.output_shapes[0], call.recorder.channels
    wide = [flow for flow in call.inputs if len(flow.ids) > 0 and len(flow.ids) == _size(target, flow.axis)]
    narrow = [flow for flow in call.inputs if len(flow.ids) != _size(target, flow.axis)]
    if not wide or any(len(flow.ids) > 1 for flow in narrow):
        return opaque(call, "operands of different widths")
    if len({flow.axis for flow in wide}) > 1:
        return opaque(call, "operands with channels along different axes")
    first = wide[0]
    for flow in wide[1:]:
        channels.couple(first.ids, flow.ids)
    for flow in narrow:
        channels.freeze(flow.ids, f"is broadcast over the channels of '{call.key}'")
    for path, value in call.leaves():
        _slice_constant(call, path, value, first)
    return [Flow(target, first.ids, first.axis)]


def _size(shape: tuple[int | None, ...], axis: int) -> int | None:
    """Return the size of an axis counted from the end; the batch axis, or none, is no channel axis."""
    return shape[axis] if len(shape) > -axis else 0


def _slice_constant(call: Call, path: Path, value: Any, flow: Flow) -> None:
    """Record a constant that has one value per channel; one that has a single value is broadcast and stays."""
    shape = np.shape(value)
    if len(shape) >= -flow.axis and shape[flow.axis] == len(flow.ids) > 1:
        stored_as = () if isinstance(value, list | tuple) else ("config", "value")
        call.recorder.constant(call.key, (*path, *stored_as), flow.axis, flow.ids)


# May meet channels along any axis.
_POINTWISE = """
ActivityRegularization AlphaDropout Dropout ELU GaussianDropout GaussianNoise Identity LeakyReLU ReLU StochasticDepth
Abs Absolute Cast Ceil Celu Clip Copy Cos Elu Erf Exp Exp2 Expm1 Floor Gelu HardSigmoid HardSilu HardShrink HardTanh
Isfinite Isinf Isnan LeakyRelu Log Log10 Log1p Log2 LogSigmoid LogicalNot Negative OnesLike Reciprocal Relu Relu6 Round
Rsqrt Selu Sigmoid Sign Silu Sin SoftShrink Softplus Softsign Sqrt Square Squareplus StopGradient Tanh TanhShrink
Threshold ZerosLike
"""
_COUPLING = """
Add Average Divide Maximum Minimum Multiply Subtract
DivideNoNan Equal FloorDivide Greater GreaterEqual Less LessEqual LogicalAnd LogicalOr Mod NotEqual Power
SquaredDifference TrueDivide Where
"""
_ALONG_AXIS = """
Any All Cumsum LogSoftmax Logsumexp Max Mean Median Min Normalize Prod Roll Softmax Sort Squeeze Std Sum
UnitNormalization Var
"""
# Know space from channels by the place of the axis: these need them last.
_SPATIAL = """
SpatialDropout1D SpatialDropout2D SpatialDropout3D
AveragePool AveragePooling1D AveragePooling2D AveragePooling3D MaxPool MaxPooling1D MaxPooling2D MaxPooling3D
AdaptiveAveragePooling1D AdaptiveAveragePooling2D AdaptiveAveragePooling3D
AdaptiveMaxPooling1D AdaptiveMaxPooling2D AdaptiveMaxPooling3D
GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D
GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D
CenterCrop Cropping1D Cropping2D Cropping3D RepeatVector Resize Resizing
"""

ANY_AXIS: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE.split(), passes),
    **dict.fromkeys(_COUPLING.split(), couples),
    **dict.fromkeys(_ALONG_AXIS.split(), _along_axis),
}
RULES: dict[str, Rule] = {
    **dict.fromkeys(_SPATIAL.split(), passes),
    "Activation": _activation,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
}
