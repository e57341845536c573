"""Layers over sequences: attention."""

from __future__ import annotations

from edgekit.prune.channels import IntArray
from edgekit.prune.recorder import Call, Rule, opaque


def _attention(call: Call) -> list[IntArray]:
    """Freeze multi-head attention, but count it: the projections and the two products."""
    layer, query = call.operation, call.inputs[0].shape
    length, width = query[1] or 1, query[-1] or 1
    key_dim, value_dim = layer.num_heads * layer.key_dim, layer.num_heads * (layer.value_dim or layer.key_dim)
    call.recorder.cost(call.key, length * 2 * width * (key_dim + value_dim), None, None)
    call.recorder.cost(call.key, length * length * (key_dim + value_dim), None, None)
    return opaque(call, "attention mixes channels")


RULES: dict[str, Rule] = {
    "MultiHeadAttention": _attention,
}
