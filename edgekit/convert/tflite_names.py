"""Name the tensors of a converted .tflite after their layers; the converter joins the names of all it fused."""

from __future__ import annotations

from typing import Any

from ai_edge_litert.tools import flatbuffer_utils

from edgekit.convert.layer_names import model_name, short, unique


def canonical(content: bytes) -> bytes:
    """Return the same model with short, unique tensor names; inputs and outputs keep theirs, and signatures too."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    for graph in model.subgraphs:
        _rename(graph)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _rename(graph: Any) -> None:
    fixed = {*graph.inputs, *graph.outputs}
    taken = {graph.tensors[index].name.decode() for index in fixed}
    firsts = [tensor.name.decode().partition(";")[0] for tensor in graph.tensors]
    model = model_name(name for index, name in enumerate(firsts) if index not in fixed)
    made = [index for op in graph.operators for index in op.outputs]
    for index in dict.fromkeys([*made, *range(len(graph.tensors))]):  # what ops make has the first right to a name
        if index not in fixed:
            graph.tensors[index].name = unique(short(firsts[index], model), taken).encode()
