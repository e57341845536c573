"""Layers over sequences: attention, embeddings, normalization across channels, products of two tensors."""

from __future__ import annotations

import math

import numpy as np

from edgekit.prune.channels.coupling import IntArray
from edgekit.prune.channels.recorder import Flow, positions
from edgekit.prune.keras import rules_recurrent
from edgekit.prune.keras.call import Call, Rule, opaque
from edgekit.prune.keras.rules_elementwise import activated
from edgekit.prune.keras.rules_layers import why_not_sliced


def _attention(call: Call) -> list[IntArray]:
    """Prune whole heads; with grouped queries a key-value head goes together with all queries that share it.

    Widths within a head stay: they sit in the scale of the softmax, and runtimes like them aligned.
    """
    layer = call.operation
    projections = [layer._query_dense, layer._key_dense, layer._value_dense, layer._output_dense]
    gate = getattr(layer, "_gate_dense", None)
    for part in (*projections, gate) if gate is not None else projections:
        if getattr(part, "quantization_mode", None) is not None or getattr(part, "lora_enabled", False):
            return opaque(call, "its kernels are quantized or have LoRA weights")
    given = call.arguments()
    query, value = given.pop("query"), given.pop("value")
    key = given.pop("key", None) or value
    for name, flow in given.items():
        if isinstance(flow, Flow):
            call.recorder.channels.freeze(flow.ids, f"is the {name} of '{call.key}'")

    grouped = type(layer).__name__ == "GroupedQueryAttention"
    stored = call.recorder.produce(f"{call.key}/heads", layer._value_dense.kernel.shape[1], step=1)
    heads = np.repeat(stored, layer.num_repeats) if grouped else stored
    made = call.recorder.produce(call.key, layer._output_dense.kernel.shape[-1])
    for part, source, units in [
        (layer._query_dense, query, heads),
        (layer._key_dense, key, stored),
        (layer._value_dense, value, stored),
        *([(gate, query, heads)] if gate is not None else []),
    ]:
        call.axis_of(part.kernel, 0, "in", source.ids)
        call.axis_of(part.kernel, 1, "out", units)
        call.axis_of(part.bias, 0, "through", units)
        call.recorder.cost(call.key, positions(source.shape) * part.kernel.shape[2], source.ids, units)
    reads = layer._output_dense
    call.axis_of(reads.kernel, 0, "in", heads)
    call.axis_of(reads.kernel, len(reads.kernel.shape) - 1, "out", made)
    if reads.bias is not None:
        call.axis_of(reads.bias, len(reads.bias.shape) - 1, "through", made)
    call.recorder.cost(call.key, positions(query.shape) * math.prod(reads.kernel.shape[1:-1]), heads, made)
    _product_cost(call, query, key, heads)

    if grouped:
        call.recorder.field(call.key, "num_key_value_heads", None, stored)
        call.recorder.field(call.key, "num_query_heads", None, heads)
        call.recorder.channels.couple(query.ids, made)  # this layer always gives the width of its query
    else:
        call.recorder.field(call.key, "num_heads", None, heads)
        several = layer._output_shape is not None and len(layer._output_shape) > 1
        call.recorder.field(call.key, "output_shape", -1 if several else None, made)
    return [made, *_scores(call, stored)]


def _product_cost(call: Call, query: Flow, key: Flow, heads: IntArray) -> None:
    """Count query x key and scores x value: every query position meets every key position it attends to."""
    layer = call.operation
    axes = getattr(layer, "_attention_axes", None) or range(1, len(key.shape) - 1)
    met = math.prod(key.shape[axis] or 1 for axis in axes)
    width = layer._query_dense.kernel.shape[2] + layer._value_dense.kernel.shape[2]
    call.recorder.cost(call.key, positions(query.shape) * met * width, None, heads)


def _scores(call: Call, heads: IntArray) -> list[IntArray]:
    """Return the channels of the attention scores where they are an output; all heads then stay in place."""
    rest = []
    for shape in call.output_shapes[1:]:
        call.recorder.channels.freeze(heads, f"shows in the attention scores that '{call.key}' returns")
        ids = call.recorder.channels.fresh(shape[-1] or 0)
        call.recorder.channels.freeze(ids, f"is a position in the attention scores of '{call.key}'")
        rest.append(ids)
    return rest


def _plain_attention(call: Call) -> list[IntArray]:
    """Pass the value's channels through an attention without projections; query and key stay as they are.

    Their channels meet in one sum whatever the weights, so no weight can silence a removed one.
    """
    inputs = call.arguments()["inputs"]
    value = inputs[1]
    for flow in call.inputs:
        if flow is not value or len(inputs) < 3:
            call.recorder.channels.freeze(flow.ids, f"feeds '{call.key}': scores are sums over channels")
    return [value.ids, *_scores(call, call.recorder.channels.fresh(0))]


def _embedding(call: Call) -> list[IntArray]:
    problem = why_not_sliced(call)
    if problem is not None:
        return opaque(call, problem)
    call.recorder.channels.freeze(call.inputs[0].ids, f"holds indices that '{call.key}' looks up")
    made = call.recorder.produce(call.key, call.operation.output_dim)
    call.axis("embeddings", 1, "out", made)
    call.recorder.field(call.key, "output_dim", None, made)
    return [made]


def _channel_norm(call: Call) -> list[IntArray]:
    """Pass channels through a normalization across them: mean and variance are those of the ones that stay.

    Removing one therefore changes its neighbours a little, as no zeroed weight could; ``surgery.zeroed``
    normalizes over the same channels. The importance ignores this second effect.
    """
    source, layer = call.inputs[0], call.operation
    rank = len(source.shape)
    axes = {axis % rank for axis in np.atleast_1d(layer.axis).tolist()}
    if rank - 1 not in axes:
        return [source.ids]  # its weights belong to other axes
    if axes != {rank - 1} or getattr(layer, "rms_scaling", False):
        return opaque(call, "normalizes over positions and channels at once")
    for name in ("gamma", "beta", "scale"):
        call.axis(name, 0, "through", source.ids)
    call.recorder.normalize(call.key, source.ids)
    return [source.ids]


def _einsum_dense(call: Call) -> list[IntArray]:
    """Slice the kernel axes of the last input and the last output letter; letters in between keep their size."""
    layer, source, target = call.operation, call.inputs[0], call.output_shapes[0]
    problem = why_not_sliced(call)
    if problem is None and layer.equation.replace(" ", "").endswith("..."):
        problem = "its equation ends in an ellipsis"
    width = target[-1]
    if problem is not None or width is None:
        return opaque(call, problem or "its last axis has no fixed size")
    left, result = layer.equation.replace(" ", "").replace("...", "").split("->")
    read, kernel = left.split(",")
    last, out = read[-1], result[-1]
    keeps = last == out
    if (last not in kernel and not keeps) or (last in result and not keeps) or (out in read and not keeps):
        return opaque(call, "moves the channel axis")
    made = source.ids if keeps else call.recorder.produce(call.key, width)
    if last in kernel:
        call.axis("kernel", kernel.index(last), "through" if keeps else "in", source.ids)
    if not keeps:
        call.axis("kernel", kernel.index(out), "out", made)
    if layer.partial_output_shape[-1] is not None:
        call.recorder.field(call.key, "output_shape", -1, made)
    if layer.bias is not None and out in layer.bias_axes:
        call.axis("bias", len(layer.bias.shape) - 1, "through", made)
    call.recorder.cost(
        call.key,
        _einsum_factor(read, kernel, source, layer.kernel.shape, last + out),
        None if keeps else source.ids,
        made,
    )
    return activated(call, made)


def _einsum_factor(read: str, kernel: str, source: Flow, kernel_shape: tuple[int, ...], channels: str) -> int:
    """Multiply the sizes of all letters but the batch and the two of the channels; unknown ones count as 1."""
    sizes = dict(zip(reversed(read), reversed(source.shape), strict=False)) | dict(
        zip(kernel, kernel_shape, strict=True)
    )
    rank, named = len(source.shape), len(read)
    elided = source.shape[1 : rank - named]
    batch = read[0] if rank == named else ""
    counted = [size for letter, size in sizes.items() if letter not in channels + batch]
    return math.prod(size or 1 for size in (*counted, *elided))


def _product(call: Call) -> list[IntArray]:
    """Follow a product of two activations (matmul, einsum): channels that only one operand has pass through.

    Where the last axis of an operand is summed away its width stays: no weight could silence a part of it.
    """
    equation = "...ij,...jk->...ik" if type(call.operation).__name__ == "Matmul" else call.operation.subscripts
    terms, _, result = equation.replace(" ", "").partition("->")
    operands = terms.split(",")
    if len(operands) != len(call.inputs) or not result or any(len(flow.shape) < 3 for flow in call.inputs):
        return opaque(call, "multiplies something else than two sequences of activations")
    if any(term.endswith("...") for term in (*operands, result)):
        return opaque(call, "its equation ends in an ellipsis")
    holders = [index for index, term in enumerate(operands) if result[-1] in term]
    if len(holders) != 1 or operands[holders[0]][-1] != result[-1]:
        return opaque(call, "moves the channel axis")
    for index, flow in enumerate(call.inputs):
        if index != holders[0]:
            call.recorder.channels.freeze(flow.ids, f"feeds '{call.key}': sums over channels without weights")
    return [call.inputs[holders[0]].ids]


def _masking(call: Call) -> list[IntArray]:
    """Keep all channels in front of a mask: a position is masked where every channel has the mask's value."""
    call.recorder.channels.freeze(call.inputs[0].ids, f"decides the mask of '{call.key}'")
    return [call.inputs[0].ids]


RULES: dict[str, Rule] = {
    **rules_recurrent.RULES,
    **dict.fromkeys(["MultiHeadAttention", "GroupedQueryAttention"], _attention),
    **dict.fromkeys(["Attention", "AdditiveAttention"], _plain_attention),
    **dict.fromkeys(["LayerNormalization", "RMSNormalization"], _channel_norm),
    **dict.fromkeys(["Matmul", "Einsum"], _product),
    "Embedding": _embedding,
    "EinsumDense": _einsum_dense,
    "Masking": _masking,
}
