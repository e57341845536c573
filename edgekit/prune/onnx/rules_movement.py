"""Operators that only move data: where did each channel go?"""

from __future__ import annotations

import numpy as np

from edgekit.prune.channels.recorder import Flow
from edgekit.prune.channels.reshape import follow
from edgekit.prune.onnx.call import NodeCall, NodeRule, opaque, passes


def _concatenate(call: NodeCall) -> list[Flow]:
    target = call.output_shapes[0]
    joined = int(call.attribute("axis", 1)) % len(target) - len(target)
    live = [flow for flow in call.flows if call.is_live(flow)]
    axis = joined if any(flow.axis == joined for flow in live) or not live else live[0].axis
    parts = []
    for index, name in enumerate(call.node.inputs):
        values = call.constant(index)
        if call.inputs[index] is not None:
            parts.append(call.along(index, axis))
        elif values is not None and axis == joined:
            parts.append(call.fixed(values.shape[joined], f"is a constant in '{call.key}'"))
        elif values is not None:
            parts.append(call.recorder.channels.fresh(values.shape[axis]))
            call.weight(index, values.ndim + axis, "through", parts[-1])
        else:
            return opaque(call, f"joins {name!r}, of which nothing is known")
    if axis == joined:
        ids = np.concatenate(parts)
    else:
        ids = parts[0]
        for part in parts[1:]:
            call.recorder.channels.couple(ids, part)
    return [Flow(target, ids, axis)]


def _split(call: NodeCall) -> list[Flow]:
    source = call.inputs[0]
    if source is None or call.constant(1) is None:
        return opaque(call, "its parts are computed")
    if int(call.attribute("axis", 0)) % len(source.shape) - len(source.shape) != source.axis:
        return [Flow(shape, source.ids, source.axis) for shape in call.output_shapes]
    flows, start = [], 0
    for index, shape in enumerate(call.output_shapes):
        ids = source.ids[start : start + (shape[source.axis] or 0)]
        call.size(1, index, ids)
        flows.append(Flow(shape, ids, source.axis))
        start += len(ids)
    return flows


def _slice(call: NodeCall) -> list[Flow]:
    source, starts, ends = call.inputs[0], call.constant(1), call.constant(2)
    if source is None or starts is None or ends is None or call.computed(3) or call.computed(4):
        return opaque(call, "its range is computed")
    rank, axes, steps = len(source.shape), call.constant(3), call.constant(4)
    places = [axis % rank for axis in (axes.tolist() if axes is not None else range(len(starts)))]
    if rank + source.axis not in places:
        return passes(call)
    place = places.index(rank + source.axis)
    step = int(steps[place]) if steps is not None else 1
    start, stop, _ = slice(int(starts[place]), int(ends[place])).indices(len(source.ids))
    if step != 1:
        return opaque(call, "takes every n-th channel")
    call.size(1, place, source.ids[:start])
    call.size(2, place, source.ids[:stop])
    return [Flow(call.output_shapes[0], source.ids[start:stop], source.axis)]


def _gather(call: NodeCall) -> list[Flow]:
    source, indices = call.inputs[0], call.constant(1)
    if source is None or indices is None:
        return opaque(call, "takes parts of it that are computed")
    rank = len(source.shape)
    axis, mine = int(call.attribute("axis", 0)) % rank, rank + source.axis
    if axis == mine:
        return opaque(call, "takes single channels")
    target = call.output_shapes[0]
    return [Flow(target, source.ids, mine - len(target) if mine < axis else source.axis)]


def _reshape(call: NodeCall) -> list[Flow]:
    """Follow channels through a reshape (Flatten, Squeeze and Unsqueeze are some)."""
    source, target = call.inputs[0], call.output_shapes[0]
    if source is None or (call.node.op == "Reshape" and call.constant(1) is None):
        return opaque(call, "its shape is computed")
    if None in source.shape or None in target or not len(source.ids):
        return opaque(call, "its sizes are unknown")
    read_by_groups = "InstanceNormalization" in call.network.readers(call.node.outputs[0])  # a group norm, taken apart
    found = follow(call.recorder.channels, source, target, 1 - len(target) if read_by_groups else None)
    if found is None:
        return opaque(call, "spreads channels over positions")
    wanted = call.constant(1)
    if call.node.op == "Reshape" and wanted is not None and wanted[found.axis] != -1:
        call.size(1, len(target) + found.axis, found.ids)
    return [found]


def _axes_changed(call: NodeCall) -> list[Flow]:
    source, target = call.inputs[0], call.output_shapes[0]
    if source is None or call.computed(1):
        return opaque(call, "its axes are computed")
    given, adds = call.constant(1), call.node.op == "Unsqueeze"
    rank = len(target) if adds else len(source.shape)
    ones = [axis for axis, size in enumerate(source.shape) if size == 1]
    axes = {axis % rank for axis in (given.tolist() if given is not None else call.attribute("axes", ones))}
    mine = len(source.shape) + source.axis
    if adds:
        old = [axis for axis in range(rank) if axis not in axes]
        return [Flow(target, source.ids, old[mine] - rank)]
    if mine in axes:
        return opaque(call, "takes the axis of the channels away")
    return [Flow(target, source.ids, source.axis + sum(axis > mine for axis in axes))]


def _transpose(call: NodeCall) -> list[Flow]:
    source = call.inputs[0]
    if source is None:
        return opaque(call, "moves a constant")
    rank = len(source.shape)
    order = [int(axis) for axis in call.attribute("perm", range(rank)[::-1])]
    return [Flow(call.output_shapes[0], source.ids, order.index(rank + source.axis) - rank)]


def _expand(call: NodeCall) -> list[Flow]:
    source, wanted, target = call.inputs[0], call.constant(1), call.output_shapes[0]
    if source is None or wanted is None:
        return opaque(call, "its shape is computed")
    if len(wanted) >= -source.axis and wanted[source.axis] == len(source.ids) > 1:
        call.size(1, len(wanted) + source.axis, source.ids)
    return [Flow(target, source.ids, source.axis)] if target[source.axis] == len(source.ids) else (
        opaque(call, "repeats its one channel")
    )  # fmt: skip


def _tile(call: NodeCall) -> list[Flow]:
    source, repeats = call.inputs[0], call.constant(1)
    if source is None or repeats is None:
        return opaque(call, "its repeats are computed")
    return [Flow(call.output_shapes[0], np.tile(source.ids, int(repeats[source.axis])), source.axis)]


def _pad(call: NodeCall) -> list[Flow]:
    """Follow channels between padded ones. These are made by no layer: they go with what they are added to."""
    source, widths, axes = call.inputs[0], call.constant(1), call.constant(3)
    if source is None or widths is None or call.computed(3):
        return opaque(call, "its widths are computed")
    rank, half = len(source.shape), len(widths) // 2
    places = [axis % rank for axis in (axes.tolist() if axes is not None else range(rank))]
    place = places.index(rank + source.axis) if rank + source.axis in places else None
    if place is None or widths[place] == widths[half + place] == 0:
        return passes(call)
    if call.attribute("mode", "constant") != "constant" or min(widths[place], widths[half + place]) < 0:
        return opaque(call, "pads the channels with other than a constant")
    sides = [call.recorder.channels.fresh(int(widths[at])) for at in (place, half + place)]
    call.size(1, place, sides[0])
    call.size(1, half + place, sides[1])
    return [Flow(call.output_shapes[0], np.concatenate([sides[0], source.ids, sides[1]]), source.axis)]


def _resize(call: NodeCall) -> list[Flow]:
    source, target, sizes = call.inputs[0], call.output_shapes[0], call.constant(3)
    if source is None or any(map(call.computed, (1, 2, 3))) or target[source.axis] != len(source.ids):
        return opaque(call, "resizes the channels, or to a computed size")
    axes = [axis % len(target) for axis in call.attribute("axes", range(len(target)))]
    mine = len(target) + source.axis
    if sizes is not None and sizes.size and mine in axes:
        call.size(3, axes.index(mine), source.ids)
    return [Flow(target, source.ids, source.axis)]


def _depth_to_space(call: NodeCall) -> list[Flow]:
    """Couple the channels that become one, block by block (sub-pixel convolution)."""
    source, target = call.inputs[0], call.output_shapes[0]
    if source is None or source.axis != -3:
        return opaque(call, "channels do not lie along the second axis")
    made = target[-3] or 1
    blocks = source.ids.reshape(made, -1).T if call.attribute("mode", "DCR") == "CRD" else source.ids.reshape(-1, made)
    call.recorder.channels.couple(np.broadcast_to(blocks[0], blocks.shape).ravel(), blocks.ravel())
    return [Flow(target, blocks[0].copy(), -3)]


def _space_to_depth(call: NodeCall) -> list[Flow]:
    source, target = call.inputs[0], call.output_shapes[0]
    if source is None or source.axis != -3:
        return opaque(call, "channels do not lie along the second axis")
    return [Flow(target, np.tile(source.ids, (target[-3] or 1) // len(source.ids)), -3)]


RULES: dict[str, NodeRule] = {
    "Concat": _concatenate,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _reshape,
    "Gather": _gather,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _axes_changed,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _axes_changed,
}
