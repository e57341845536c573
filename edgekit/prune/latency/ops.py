"""Which ops a network runs, in graph order, whatever kind of file it is."""

from __future__ import annotations

from edgekit.prune.channels.graph import ChannelGraph
from edgekit.prune.latency import keras_ops, onnx_ops
from edgekit.prune.latency.shapes import Op
from edgekit.prune.onnx.network import Node


def ops_of(graph: ChannelGraph) -> list[Op]:
    """List the ops that take time. Free are what the converters fold or alias: batch norms behind a layer with a
    kernel, ReLU, reshapes, dropout."""
    kernels: set[bytes] = set()  # outputs of layers that a batch norm folds into
    ops: list[Op] = []
    for call in graph.calls:
        kind = onnx_ops if isinstance(call.operation, Node) else keras_ops
        terms = graph.mac_terms[call.terms.start : call.terms.stop]
        folded = kind.folds(call) and call.inputs[0].units.tobytes() in kernels
        ops += [] if folded else kind.ops_of(call, terms)
        if terms:
            kernels.add(call.outputs[0].units.tobytes())
    return ops
