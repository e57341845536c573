"""Operators with weights: convolutions, matrix products, normalizations."""

from __future__ import annotations

import math

import numpy as np

from edgekit.prune.channels.coupling import IntArray
from edgekit.prune.channels.recorder import Flow
from edgekit.prune.onnx.call import NodeCall, NodeRule, opaque, passes

_SMALL_GROUP = 8  # channels; fewer could not be thinned out to widths that runtimes like


def _convolution(call: NodeCall) -> list[Flow]:
    kernel, groups = call.constant(1), int(call.attribute("group", 1))
    if kernel is None or call.computed(2):
        return opaque(call, "its kernel or bias is computed")
    axis, target = 1 - kernel.ndim, call.output_shapes[0]
    read = call.along(0, axis)
    area = math.prod(kernel.shape[2:]) * math.prod(size or 1 for size in target[2:])
    if groups > 1 and groups == len(read):
        return [Flow(target, _depthwise(call, read, kernel.shape[0] // groups, area), axis)]
    made = call.recorder.produce(call.key, kernel.shape[0])
    call.weight(1, 0, "out", made)
    call.weight(2, 0, "through", made)
    if groups > 1 and _takes_whole_groups(call, read, made, groups):
        call.recorder.cost(call.key, area * kernel.shape[1], None, made)
    else:
        shared = _same_in_each_group(call, read, made, groups) if groups > 1 else read
        call.weight(1, 1, "in", shared)
        call.recorder.cost(call.key, area, shared, made)
    return [Flow(target, made, axis)]


def _depthwise(call: NodeCall, read: IntArray, multiplier: int, area: int) -> IntArray:
    spread = np.repeat(read, multiplier)
    call.weight(1, 0, "through", spread)
    call.weight(2, 0, "through", spread)
    call.recorder.number(call.key, ("attribute", "group"), read)
    call.recorder.cost(call.key, area, None, spread)
    return spread


def _takes_whole_groups(call: NodeCall, read: IntArray, made: IntArray, groups: int) -> bool:
    """Couple each group of a convolution, its inputs and outputs, where groups are small; say whether it was done."""
    channels, parts = call.recorder.channels, read.reshape(groups, -1)
    frozen = any(channels.frozen_because(identity) is not None for identity in read.tolist())
    if frozen or min(parts.shape[1], len(made) // groups) >= _SMALL_GROUP:
        return False
    channels.couple(np.repeat(parts[:, 0], parts.shape[1]), read)
    channels.couple(np.repeat(parts[:, 0], len(made) // groups), made)
    call.recorder.number(call.key, ("attribute", "group"), parts[:, 0])
    return True


def _same_in_each_group(call: NodeCall, read: IntArray, made: IntArray, groups: int) -> IntArray:
    """Couple the n-th channels of all groups, so that groups stay equally wide; return those of the first."""
    for ids in (read, made):
        call.recorder.channels.couple(np.tile(ids[: len(ids) // groups], groups), ids)
    return read[: len(read) // groups]


def _transposed_convolution(call: NodeCall) -> list[Flow]:
    kernel, groups, target = call.constant(1), int(call.attribute("group", 1)), call.output_shapes[0]
    if kernel is None or call.computed(2):
        return opaque(call, "its kernel or bias is computed")
    axis, source = 1 - kernel.ndim, call.inputs[0]
    assert source is not None
    area = math.prod(kernel.shape[2:]) * math.prod(size or 1 for size in source.shape[2:])
    if groups > 1 and groups == kernel.shape[0]:
        return [Flow(target, _depthwise(call, call.along(0, axis), 1, area), axis)] if kernel.shape[1] == 1 else (
            opaque(call, "its groups have several outputs for one input")
        )  # fmt: skip
    if groups > 1:
        return opaque(call, "it is transposed and grouped")
    read, made = call.along(0, axis), call.recorder.produce(call.key, kernel.shape[1])
    call.weight(1, 0, "in", read)
    call.weight(1, 1, "out", made)
    call.weight(2, 0, "through", made)
    call.recorder.cost(call.key, area, read, made)
    return [Flow(target, made, axis)]


def _gemm(call: NodeCall) -> list[Flow]:
    kernel, source = call.constant(1), call.inputs[0]
    if kernel is None or source is None or call.computed(2) or call.attribute("transA", 0):
        return opaque(call, "its first matrix is constant or transposed, or another one computed")
    into, out = (1, 0) if call.attribute("transB", 0) else (0, 1)
    read, made = call.along(0, -1), call.recorder.produce(call.key, kernel.shape[out])
    call.weight(1, into, "in", read)
    call.weight(1, out, "out", made)
    bias = call.constant(2)
    if bias is not None and bias.ndim and bias.shape[-1] == len(made) > 1:
        call.weight(2, bias.ndim - 1, "through", made)
    call.recorder.cost(call.key, source.shape[0] or 1, read, made)
    return [Flow(call.output_shapes[0], made, -1)]


def _matrix_product(call: NodeCall) -> list[Flow]:
    left, right = call.constant(0), call.constant(1)
    target = call.output_shapes[0]
    if left is None and right is None:
        return _product_of_computed(call)
    kernel = right if right is not None else left
    assert kernel is not None
    flow = call.inputs[0 if right is not None else 1]
    if kernel.ndim != 2 or flow is None or len(flow.shape) < 2:
        return opaque(call, "its matrix has other than two axes")
    along, index, into = (-1, 1, 0) if right is not None else (-2, 0, 1)
    read = call.along(1 - index, along)
    made = call.recorder.produce(call.key, kernel.shape[1 - into])
    call.weight(index, into, "in", read)
    call.weight(index, 1 - into, "out", made)
    rows = math.prod(size or 1 for size in target) // max(len(made), 1)
    call.recorder.cost(call.key, rows, read, made)
    return [Flow(target, made, along)]


def _product_of_computed(call: NodeCall) -> list[Flow]:
    """Follow the columns of the second matrix, which the first one only mixes row by row (attention's values)."""
    left, right = call.inputs
    target = call.output_shapes[0]
    if left is None or right is None or right.axis != -1 or len(target) < 2 or target[-1] != len(right.ids):
        return opaque(call, "it multiplies two computed tensors")
    call.freeze(left.ids, f"feeds '{call.key}', which mixes its channels")
    factor = math.prod(size or 1 for size in target[:-1]) * (left.shape[-1] or 1)
    call.recorder.cost(call.key, factor, None, right.ids)
    return [Flow(target, right.ids, -1)]


def _batch_norm(call: NodeCall) -> list[Flow]:
    """Follow channels through a normalization with statistics of its own (or of each sample: InstanceNormalization)."""
    source = call.inputs[0]
    if source is None or any(map(call.computed, range(1, len(call.inputs)))):
        return opaque(call, "its scale or statistics are computed")
    ids = call.along(0, 1 - len(source.shape))
    call.weight(1, 0, "scale", ids)
    for index in range(2, len(call.inputs)):
        call.weight(index, 0, "through", ids)
    return [Flow(shape, ids, 1 - len(source.shape)) for shape in call.output_shapes[:1]] + [
        _statistics(call, shape) for shape in call.output_shapes[1:]
    ]


def _statistics(call: NodeCall, shape: tuple[int | None, ...]) -> Flow:
    return Flow(shape, call.fixed((shape[-1] or 0) if shape else 0, f"is a statistic of '{call.key}'"))


def _group_norm(call: NodeCall) -> list[Flow]:
    """Couple the channels that are normalized together: groups go as wholes, and leave the others' statistics."""
    source, groups = call.inputs[0], int(call.attribute("num_groups", 1))
    if source is None or groups == 1 or call.computed(1) or call.computed(2):
        return opaque(call, "normalizes across all channels" if groups == 1 else "its scale is computed")
    ids = call.along(0, 1 - len(source.shape))
    width = len(ids) // groups
    call.recorder.channels.couple(np.repeat(ids[::width], width), ids)
    call.recorder.number(call.key, ("attribute", "num_groups"), ids[::width])
    for index in (1, 2):
        values = call.constant(index)
        each = ids if values is not None and values.size == len(ids) else ids[::width]  # opset 21 and 18
        call.weight(index, 0, "scale" if index == 1 else "through", each)
    return passes(call)


def _layer_norm(call: NodeCall) -> list[Flow]:
    source = call.inputs[0]
    first = int(call.attribute("axis", -1))
    if source is None or len(source.shape) + source.axis >= first % len(source.shape):
        return opaque(call, "normalizes across channels")
    return [Flow(call.output_shapes[0], source.ids, source.axis)] + [
        _statistics(call, shape) for shape in call.output_shapes[1:]
    ]


RULES: dict[str, NodeRule] = {
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "Gemm": _gemm,
    "MatMul": _matrix_product,
    "BatchNormalization": _batch_norm,
    "InstanceNormalization": _batch_norm,
    "GroupNormalization": _group_norm,
    "LayerNormalization": _layer_norm,
}
