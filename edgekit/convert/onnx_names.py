"""Give the tensors of a converted graph short, stable names.

tf2onnx numbers its names with a process-wide counter and picks among equal constants by hash order, so two
conversions of one model differ; naming by position in the graph makes the file reproducible.
"""

from __future__ import annotations

import re

import onnx

from edgekit.convert.layer_names import model_name, short, unique

_GENERATED = re.compile(r"__\d+(:\d+)?$|^const_fold_opt|^Const")
_WRAPPER = re.compile(r"^(StatefulPartitionedCall(_\d+)?/)+")

_WEIGHTED = ("Conv", "ConvTranspose", "MatMul", "Gemm")


def canonical(proto: onnx.ModelProto) -> None:
    """Rename inner tensors, in place: TensorFlow's own without wrapping, others by kind and position.

    Initializers are called after their first reader and sorted. The graph's inputs and outputs keep theirs.
    """
    graph = proto.graph
    fixed = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {name: name for name in fixed}
    taken = set(fixed)
    readable = {name: _readable(name) or _layer(node) for node in graph.node for name in node.output if name}
    model = model_name(readable.values())
    for position, node in enumerate(graph.node):
        for name in node.output:
            if name and name not in names:
                names[name] = unique(short(readable[name], model) or f"{node.op_type}_{position}", taken)
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        for operand, name in enumerate(node.input):
            if name in constants and name not in names:
                names[name] = unique(f"{names[node.output[0]]}.{operand}", taken)
    _rename(graph, names)
    ordered = sorted(graph.initializer, key=lambda tensor: tensor.name)
    del graph.initializer[:]
    graph.initializer.extend(ordered)


def sort_nodes(proto: onnx.ModelProto) -> None:
    """Put the nodes in execution order, in place, keeping the given order where it is free."""
    graph = proto.graph
    ready = {""} | {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    waiting, ordered = list(graph.node), []
    while waiting:
        later = []
        for node in waiting:
            if ready.issuperset(node.input):
                ordered.append(node)
                ready.update(node.output)
            else:
                later.append(node)
        if len(later) == len(waiting):
            raise ValueError(f"node '{later[0].name}' reads a tensor nobody writes")
        waiting = later
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)


def _readable(name: str) -> str:
    """Return TensorFlow's name for a tensor, or "" for one a tool made up."""
    if _GENERATED.search(name):
        return ""
    short = _WRAPPER.sub("", name)
    return short.removesuffix(":0")


def _layer(node: onnx.NodeProto) -> str:
    """Return the layer a folded convolution came from, which only the name of its weights still tells."""
    if node.op_type not in _WEIGHTED or len(node.input) < 2:
        return ""
    return _readable(node.input[1]).rpartition("/")[0]


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for item in (*graph.initializer, *graph.value_info):
        item.name = names.get(item.name, item.name)
