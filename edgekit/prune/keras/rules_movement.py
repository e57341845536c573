"""Operations that only move data: where did each channel go?"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import keras
import numpy as np

from edgekit.prune.channels.coupling import IntArray
from edgekit.prune.channels.recorder import Flow
from edgekit.prune.channels.reshape import follow
from edgekit.prune.keras.call import Call, Followed, Rule, opaque
from edgekit.prune.keras.rules_elementwise import couples, passes


def _concatenate(call: Call) -> Followed:
    target = call.output_shapes[0]
    joined = call.operation.axis % len(target) - len(target)
    if any(flow.axis != joined for flow in call.inputs):
        if any(flow.axis == joined for flow in call.inputs):
            return opaque(call, "joins tensors with channels along different axes")
        return couples(call)
    flows = iter(call.inputs)
    parts = []
    for item in keras.tree.flatten((call.args, call.kwargs)):
        if isinstance(item, keras.KerasTensor):
            parts.append(next(flows).ids)
        elif np.ndim(item) == len(target):
            parts.append(call.recorder.channels.fresh(np.shape(item)[joined]))
            call.recorder.channels.freeze(parts[-1], f"is a constant in '{call.key}'")
    ids = np.concatenate(parts)
    return [Flow(target, ids, joined)] if len(ids) == target[joined] else opaque(call, "joins a constant")


def _stack(call: Call) -> Followed:
    """Couple the tensors laid beside each other along a new axis."""
    target, channels = call.output_shapes[0], call.recorder.channels
    new = call.operation.axis % len(target) - len(target)
    first = call.inputs[0]
    if any(flow.axis != first.axis or len(flow.ids) != len(first.ids) for flow in call.inputs):
        return opaque(call, "stacks tensors with channels along different axes")
    for flow in call.inputs[1:]:
        channels.couple(first.ids, flow.ids)
    return [Flow(target, first.ids, first.axis - (new >= first.axis))]


def _unstack(call: Call) -> Followed:
    source = call.inputs[0]
    gone = call.operation.axis % len(source.shape) - len(source.shape)
    if gone == source.axis:
        return opaque(call, "takes channels apart")
    return [Flow(shape, source.ids, source.axis + (gone > source.axis)) for shape in call.output_shapes]


def _split(call: Call) -> Followed:
    """Cut the channels in parts; each then has its own width, so a number of equal parts becomes a list of cuts."""
    source, layer = call.inputs[0], call.operation
    if layer.axis % len(source.shape) - len(source.shape) != source.axis:
        return [Flow(shape, source.ids, source.axis) for shape in call.output_shapes]
    cuts = np.cumsum([shape[source.axis] or 0 for shape in call.output_shapes]).tolist()
    for index, cut in enumerate(cuts[:-1]):
        call.recorder.field(call.key, "indices_or_sections", index, source.ids[:cut])
    return [
        Flow(shape, source.ids[start:stop], source.axis)
        for shape, (start, stop) in zip(call.output_shapes, pairwise([0, *cuts]), strict=True)
    ]


def _pad(call: Call) -> Followed:
    """Follow channels between padded ones. These are made by no layer: they go with what they are added to."""
    source, target, widths = call.inputs[0], call.output_shapes[0], call.operation.pad_width
    rank = len(source.shape)
    widths = list(widths) * rank if len(widths) == 1 else widths
    before, after = widths[source.axis]
    if before == after == 0:
        return passes(call)
    if call.operation.mode != "constant" or len(call.operation.pad_width) != rank:
        return opaque(call, "pads the channels with other than one constant")
    sides = [call.recorder.channels.fresh(count) for count in (before, after)]
    for side, ids in enumerate(sides):
        call.recorder.number(call.key, ("config", "pad_width", rank + source.axis, side), ids)
    return [Flow(target, np.concatenate([sides[0], source.ids, sides[1]]), source.axis)]


def _repeat(call: Call) -> Followed:
    source, layer = call.inputs[0], call.operation
    rank = len(source.shape)
    if layer.axis is None or np.ndim(layer.repeats) > 0:
        return opaque(call, "repeats unevenly")
    if layer.axis % rank - rank != source.axis:
        return passes(call)
    return [Flow(call.output_shapes[0], np.repeat(source.ids, layer.repeats), source.axis)]


def _tile(call: Call) -> Followed:
    source, target, repeats = call.inputs[0], call.output_shapes[0], np.atleast_1d(call.operation.repeats)
    if len(target) != len(source.shape):
        return opaque(call, "adds axes")
    times = int(repeats[source.axis]) if len(repeats) >= -source.axis else 1
    return [Flow(target, np.tile(source.ids, times), source.axis)]


def _flip(call: Call) -> Followed:
    source, axis = call.inputs[0], call.operation.axis
    rank = len(source.shape)
    flipped = axis is None or rank + source.axis in [one % rank for one in np.atleast_1d(axis).tolist()]
    return [Flow(call.output_shapes[0], source.ids[::-1] if flipped else source.ids, source.axis)]


def _reshape(call: Call) -> Followed:
    """Follow channels through a reshape: to the axis that keeps most of them apart."""
    source, target = call.inputs[0], call.output_shapes[0]
    if len(source.shape) < 2 or len(target) < 2 or len(source.ids) == 0:
        return opaque(call, "its last axis has no fixed size")
    found = follow(call.recorder.channels, source, target)
    if found is None:
        return opaque(call, "spreads channels over positions")
    for name in ("target_shape", "newshape"):
        shape = getattr(call.operation, name, None)
        if shape is not None and np.atleast_1d(shape)[found.axis] != -1:
            call.recorder.field(call.key, name, found.axis, found.ids)
    return [found]


def _flatten(call: Call) -> Followed:
    if getattr(call.operation, "data_format", "channels_last") == "channels_first":
        return opaque(call, "data_format is channels_first")
    return _reshape(call)


def _depth_to_space(call: Call) -> Followed:
    """Couple the channels that become one, block by block (sub-pixel convolution)."""
    source, target = call.inputs[0], call.output_shapes[0]
    if call.operation.data_format == "channels_first":
        return opaque(call, "data_format is channels_first")
    blocks = source.ids.reshape(-1, target[-1] or 1)
    call.recorder.channels.couple(np.broadcast_to(blocks[0], blocks.shape).ravel(), source.ids)
    return [Flow(target, blocks[0])]


def _space_to_depth(call: Call) -> Followed:
    source, target = call.inputs[0], call.output_shapes[0]
    if call.operation.data_format == "channels_first":
        return opaque(call, "data_format is channels_first")
    return [Flow(target, np.tile(source.ids, (target[-1] or 1) // len(source.ids)))]


def _transpose(call: Call) -> Followed:
    source, layer = call.inputs[0], call.operation
    rank = len(source.shape)
    kind = type(layer).__name__
    if kind == "Permute":
        order = [0, *layer.dims]  # counts its axes from 1: the batch is 0
    elif kind == "Transpose":
        order = [axis % rank for axis in layer.axes] if layer.axes is not None else list(range(rank))[::-1]
    else:
        moves = (layer.axis1, layer.axis2) if kind == "Swapaxes" else (layer.source, layer.destination)
        probe = np.empty(tuple(range(1, rank + 1)), dtype=np.bool_)  # every axis has a size of its own
        moved = np.swapaxes(probe, *moves) if kind == "Swapaxes" else np.moveaxis(probe, *moves)
        order = [size - 1 for size in moved.shape]
    axis = order.index(rank + source.axis) - rank
    return [Flow(call.output_shapes[0], source.ids, axis)] if axis > -rank else opaque(call, "moves channels to batch")


def _expand(call: Call) -> Followed:
    source, target = call.inputs[0], call.output_shapes[0]
    new = {one % len(target) for one in np.atleast_1d(call.operation.axis).tolist()}
    old = [axis for axis in range(len(target)) if axis not in new]
    return [Flow(target, source.ids, old[source.axis] - len(target))]


def _get_item(call: Call) -> Followed:
    """Follow channels through x[...]: a range of them is counted anew, everything else must leave them whole."""
    source, target = call.inputs[0], call.output_shapes[0]
    in_args = len(call.args) > 1
    key: Any = call.args[1] if in_args else call.kwargs.get("key")
    whole = ("inbound_nodes", call.index, *(("args", 1) if in_args else ("kwargs", "key")))
    several = isinstance(key, tuple | list)  # a loaded model has a list
    parts = list(key) if several else [key]
    paths = [(*whole, place) for place in range(len(parts))] if several else [whole]
    if not all(part is None or part is Ellipsis or isinstance(part, int | slice) for part in parts):
        return opaque(call, "indexes with tensors")
    taken = sum(part is not None and part is not Ellipsis for part in parts)
    filler = [slice(None)] * (len(source.shape) - taken)
    at = parts.index(Ellipsis) if Ellipsis in parts else len(parts)
    parts[at : at + 1], paths[at : at + 1] = filler, [()] * len(filler)

    axis, behind = -len(source.shape), 0
    found: tuple[Any, Any] | None = None
    for part, path in zip(parts, paths, strict=True):
        if part is None:
            behind += found is not None
            continue
        if axis == source.axis:
            found = part, path
        elif axis > source.axis:
            behind += isinstance(part, slice)
        axis += 1
    part, path = found if found is not None else (slice(None), ())
    if not isinstance(part, slice):
        return opaque(call, "takes single channels")
    ids = _sliced(call, part, path, source.ids)
    return opaque(call, "takes every n-th channel") if ids is None else [Flow(target, ids, -1 - behind)]


def _sliced(call: Call, part: slice, path: tuple[str | int, ...], ids: IntArray) -> IntArray | None:
    """Return the channels of a slice, and record its ends; None where its steps would hit others."""
    start, stop, step = part.indices(len(ids))
    if step == -1 and part.start is None and part.stop is None:
        return ids[::-1]
    if step != 1:
        return None
    if part.start is not None:
        call.recorder.number(call.key, (*path, "config", "start"), ids[:start])
    if part.stop is not None:
        call.recorder.number(call.key, (*path, "config", "stop"), ids[:stop])
    return ids[start:stop]


ANY_AXIS: dict[str, Rule] = {
    **dict.fromkeys(["Moveaxis", "Permute", "Swapaxes", "Transpose"], _transpose),
    **dict.fromkeys(["Split", "ArraySplit"], _split),
    "Concatenate": _concatenate,
    "ExpandDims": _expand,
    "Flip": _flip,
    "GetItem": _get_item,
    "Pad": _pad,
    "Repeat": _repeat,
    "Reshape": _reshape,
    "Stack": _stack,
    "Tile": _tile,
    "Unstack": _unstack,
}
RULES: dict[str, Rule] = {
    "DepthToSpace": _depth_to_space,
    "Flatten": _flatten,
    "SpaceToDepth": _space_to_depth,
}
