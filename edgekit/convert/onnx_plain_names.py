"""Names for an ONNX network's inputs and outputs that every converter leaves alone: no colon, no slash, no emoji."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx


def rename(proto: onnx.ModelProto) -> tuple[dict[str, str], dict[str, str]]:
    """Rename the inputs and outputs of a model, in place; returns its own names by the new ones, in order."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    names = [value.name for value in proto.graph.input if value.name not in constants]
    inputs = {f"given_{position}": name for position, name in enumerate(names)}
    outputs = {f"found_{position}": value.name for position, value in enumerate(proto.graph.output)}
    new = {own: plain for plain, own in (inputs | outputs).items()}
    for values in (proto.graph.input, proto.graph.output, proto.graph.value_info, proto.graph.initializer):
        for value in values:
            value.name = new.get(value.name, value.name)
    for node in _nodes(proto.graph, new):
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    return inputs, outputs


def _nodes(graph: onnx.GraphProto, new: Mapping[str, str]) -> Iterator[onnx.NodeProto]:
    """Yield all nodes; a body of If, Loop or Scan may read or put out what stands outside of it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                for value in body.output:
                    value.name = new.get(value.name, value.name)
                yield from _nodes(body, new)
