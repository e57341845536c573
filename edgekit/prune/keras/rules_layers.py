"""Layers whose kernels make channels, and those with weights per channel."""

from __future__ import annotations

import math

import numpy as np

from edgekit.prune.channels.coupling import IntArray
from edgekit.prune.channels.recorder import positions
from edgekit.prune.keras.call import Call, Followed, Rule, opaque
from edgekit.prune.keras.rules_elementwise import activated

_SMALL_GROUP = 8  # channels; fewer could not be thinned out to widths that runtimes like


def why_not_sliced(call: Call) -> str | None:
    """Return why a layer with a kernel cannot be sliced, or None."""
    layer = call.operation
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return "data_format is channels_first"
    if getattr(layer, "quantization_mode", None) is not None or getattr(layer, "lora_enabled", False):
        return "its kernel is quantized or has LoRA weights"
    return None


def _convolution(call: Call) -> Followed:
    layer, source, target = call.operation, call.inputs[0], call.output_shapes[0]
    transposed = type(layer).__name__.endswith("Transpose")
    area = math.prod(layer.kernel_size) * positions(source.shape if transposed else target)
    problem = why_not_sliced(call)
    if problem is not None:
        channels = math.prod(layer.kernel.shape[-2:])
        call.recorder.cost(call.key, area * channels, None, None)
        return opaque(call, problem)
    made = call.recorder.produce(call.key, layer.filters)
    into, out = (-1, -2) if transposed else (-2, -1)
    rank = len(layer.kernel.shape)
    call.axis("kernel", rank + out, "out", made)
    call.axis("bias", 0, "through", made)
    call.recorder.field(call.key, "filters", None, made)
    grouped = getattr(layer, "groups", 1) > 1  # transposed convolutions have no groups
    if grouped and _takes_whole_groups(call, made):
        call.recorder.cost(call.key, area * layer.kernel.shape[into], None, made)
    else:
        read = _same_in_each_group(call, source.ids, made) if grouped else source.ids
        call.axis("kernel", rank + into, "in", read)
        call.recorder.cost(call.key, area, read, made)
    return activated(call, made)


def _takes_whole_groups(call: Call, made: IntArray) -> bool:
    """Couple each group of a convolution, its inputs and outputs, where groups are small; say whether it was done.

    A channel is read by its own group only, so a group that goes takes its inputs with it.
    """
    source, channels, groups = call.inputs[0], call.recorder.channels, call.operation.groups
    read = source.ids.reshape(groups, -1)
    if not call.recorder.has_field(call.key, "groups"):  # else a shared layer: as in its first call
        frozen = any(channels.frozen_because(identity) is not None for identity in source.ids.tolist())
        if frozen or call.recorder.is_read(call.key) or min(read.shape[1], len(made) // groups) >= _SMALL_GROUP:
            return False
    channels.couple(np.repeat(read[:, 0], read.shape[1]), source.ids)
    channels.couple(np.repeat(read[:, 0], len(made) // groups), made)
    call.recorder.field(call.key, "groups", None, read[:, 0])
    return True


def _same_in_each_group(call: Call, read: IntArray, made: IntArray) -> IntArray:
    """Couple the n-th channels of all groups, so that groups stay equally wide; return those of the first."""
    channels, groups = call.recorder.channels, call.operation.groups
    for ids in (read, made):
        channels.couple(np.tile(ids[: len(ids) // groups], groups), ids)
    return read[: len(read) // groups]


def _depthwise(call: Call) -> Followed:
    layer, source = call.operation, call.inputs[0]
    problem = why_not_sliced(call)
    if problem is not None:
        return opaque(call, problem)
    spread = np.repeat(source.ids, layer.depth_multiplier)
    call.axis("kernel", len(layer.kernel.shape) - 2, "through", source.ids)
    call.axis("bias", 0, "through", spread)
    area = math.prod(layer.kernel_size) * positions(call.output_shapes[0])
    call.recorder.cost(call.key, area, None, spread)
    return activated(call, spread)


def _separable(call: Call) -> Followed:
    layer, source = call.operation, call.inputs[0]
    problem = why_not_sliced(call)
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
    return activated(call, made)


def _dense(call: Call) -> Followed:
    layer, source = call.operation, call.inputs[0]
    problem = why_not_sliced(call)
    if problem is not None:
        return opaque(call, problem)
    made = call.recorder.produce(call.key, layer.units)
    call.axis("kernel", 0, "in", source.ids)
    call.axis("kernel", 1, "out", made)
    call.axis("bias", 0, "through", made)
    call.recorder.field(call.key, "units", None, made)
    call.recorder.cost(call.key, positions(call.output_shapes[0]), source.ids, made)
    return activated(call, made)


def _batch_norm(call: Call) -> Followed:
    source = call.inputs[0]
    if call.operation.axis not in (-1, len(source.shape) - 1):
        return opaque(call, "normalizes another axis than the last")
    call.axis("gamma", 0, "scale", source.ids)
    for name in ("beta", "moving_mean", "moving_variance"):
        call.axis(name, 0, "through", source.ids)
    return [source.ids]


def _group_norm(call: Call) -> Followed:
    """Couple the channels that are normalized together: groups go as wholes, and leave the others' statistics."""
    source, groups = call.inputs[0], call.operation.groups
    if call.operation.axis not in (-1, len(source.shape) - 1):
        return opaque(call, "normalizes another axis than the last")
    width = len(source.ids) // groups
    if groups == 1:
        return opaque(call, "normalizes across all channels")
    call.recorder.channels.couple(np.repeat(source.ids[::width], width), source.ids)
    call.recorder.field(call.key, "groups", None, source.ids[::width])
    call.axis("gamma", 0, "scale", source.ids)
    call.axis("beta", 0, "through", source.ids)
    return [source.ids]


def _layer_scale(call: Call) -> Followed:
    """Scale each channel by a weight of its own (the layer of keras.applications.ConvNeXt)."""
    call.recorder.axis(call.key, 0, 0, "through", call.inputs[0].ids)
    call.recorder.field(call.key, "projection_dim", None, call.inputs[0].ids)
    return [call.inputs[0].ids]


def _prelu(call: Call) -> Followed:
    alpha = call.operation.alpha.shape
    if alpha[-1] == len(call.inputs[0].ids):
        call.axis("alpha", len(alpha) - 1, "through", call.inputs[0].ids)
    return [call.inputs[0].ids]


RULES: dict[str, Rule] = {
    **dict.fromkeys(["Conv1D", "Conv2D", "Conv3D"], _convolution),
    **dict.fromkeys(["Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"], _convolution),
    **dict.fromkeys(["DepthwiseConv1D", "DepthwiseConv2D"], _depthwise),
    **dict.fromkeys(["SeparableConv1D", "SeparableConv2D"], _separable),
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "LayerScale": _layer_scale,
    "PReLU": _prelu,
}
