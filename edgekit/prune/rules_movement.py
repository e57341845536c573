"""Operations that only move data: where did each channel go?"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from edgekit.prune.channels import IntArray
from edgekit.prune.recorder import Call, Rule, opaque
from edgekit.prune.rules_elementwise import couples, passes


def _concatenate(call: Call) -> list[IntArray]:
    rank = len(call.inputs[0].shape)
    if call.operation.axis % rank != rank - 1:
        return couples(call)
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
    return passes(call) if axes is not None and axes[-1] in (last, -1) else opaque(call, "moves the channel axis")


def _expand(call: Call) -> list[IntArray]:
    axes = np.atleast_1d(call.operation.axis).tolist()
    rank = len(call.output_shapes[0])
    return opaque(call, "moves the channel axis") if any(one % rank == rank - 1 for one in axes) else passes(call)


def _get_item(call: Call) -> list[IntArray]:
    key: Any = call.args[1] if len(call.args) > 1 else call.kwargs.get("key")
    parts = key if isinstance(key, tuple) else (key,)
    if any(part is None or isinstance(part, keras.KerasTensor) for part in parts):
        return opaque(call, "indexes with new axes or tensors")
    whole = parts[-1] is Ellipsis or parts[-1] == slice(None)
    if Ellipsis not in parts and len(parts) < len(call.inputs[0].shape):
        whole = True
    return passes(call) if whole else opaque(call, "slices channels")


RULES: dict[str, Rule] = {
    **dict.fromkeys(["Permute", "Transpose"], _transpose),
    "Concatenate": _concatenate,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "ExpandDims": _expand,
    "GetItem": _get_item,
}
