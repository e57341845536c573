"""Layers whose kernels make channels, and those with weights per channel."""

from __future__ import annotations

import math

import numpy as np

from edgekit.prune.channels import IntArray
from edgekit.prune.recorder import Call, Rule, opaque, positions
from edgekit.prune.rules_elementwise import activated


def why_not_sliced(call: Call) -> str | None:
    """Return why a layer with a kernel cannot be sliced, or None."""
    layer = call.operation
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return "data_format is channels_first"
    if getattr(layer, "groups", 1) != 1:
        return f"grouped convolution ({layer.groups} groups)"
    if getattr(layer, "quantization_mode", None) is not None or getattr(layer, "lora_enabled", False):
        return "its kernel is quantized or has LoRA weights"
    return None


def _convolution(call: Call) -> list[IntArray]:
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
    call.axis("kernel", rank + into, "in", source.ids)
    call.axis("kernel", rank + out, "out", made)
    call.axis("bias", 0, "through", made)
    call.recorder.field(call.key, "filters", None, made)
    call.recorder.cost(call.key, area, source.ids, made)
    return activated(call, made)


def _depthwise(call: Call) -> list[IntArray]:
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


def _separable(call: Call) -> list[IntArray]:
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


def _dense(call: Call) -> list[IntArray]:
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


RULES: dict[str, Rule] = {
    **dict.fromkeys(["Conv1D", "Conv2D", "Conv3D"], _convolution),
    **dict.fromkeys(["Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"], _convolution),
    **dict.fromkeys(["DepthwiseConv1D", "DepthwiseConv2D"], _depthwise),
    **dict.fromkeys(["SeparableConv1D", "SeparableConv2D"], _separable),
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "PReLU": _prelu,
}
