"""Products with a constant matrix as FULLY_CONNECTED, as TFLite's own converter writes them; others write BATCH_MATMUL.

LiteRT's static int8 kernel of that knows one scale for the whole matrix. With one for each channel it gave the same
for every input: the network for the direction of text of PaddleOCR one answer for all images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.convert.tflite_fusions import remove
from edgekit.source.tflite_file import entries, kind_of

_VERSION = 6  # the first that keeps the rank of its input and needs no bias


def connect(model: Any) -> bool:
    """Make float32 BATCH_MATMULs by a constant matrix FULLY_CONNECTED, in place; returns whether there were any."""
    kinds = [kind_of(code) for code in model.operatorCodes]
    code = len(kinds)
    changed = False
    for number, graph in enumerate(model.subgraphs):
        products = [op for op in entries(graph.operators) if kinds[op.opcodeIndex] == "BATCH_MATMUL"]
        layers = [op for op in products if _is_layer(model, graph, op)]
        matrices = {int(op.inputs[1]) for op in layers}
        for op in layers:
            op.inputs = [op.inputs[0], _rows(model, graph, op), -1]
            op.opcodeIndex = code
            op.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
            op.builtinOptions = schema.FullyConnectedOptionsT()
            op.builtinOptions.keepNumDims = True
        if layers:
            _forget(model, number, matrices)
            changed = True
    if changed:
        made = schema.OperatorCodeT()
        made.builtinCode = made.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
        made.version = _VERSION
        model.operatorCodes.append(made)
    return changed


def _is_layer(model: Any, graph: Any, op: Any) -> bool:
    left, right = (graph.tensors[index] for index in op.inputs[:2])
    data = model.buffers[right.buffer].data
    shape = entries(right.shape)
    return bool(
        data is not None
        and len(data)
        and left.type == right.type == schema.TensorType.FLOAT32
        and not (op.builtinOptions is not None and op.builtinOptions.adjX)
        and 2 <= len(shape) <= len(entries(left.shape))
        and all(size == 1 for size in shape[:-2])
    )


def _rows(model: Any, graph: Any, op: Any) -> int:
    """Add the matrix as FULLY_CONNECTED takes it, a row for each output; return its tensor."""
    old = graph.tensors[op.inputs[1]]
    matrix = np.frombuffer(bytes(model.buffers[old.buffer].data), np.float32).reshape(entries(old.shape)[-2:])
    if op.builtinOptions is None or not op.builtinOptions.adjY:
        matrix = matrix.T
    buffer, tensor = schema.BufferT(), schema.TensorT()
    buffer.data = np.frombuffer(matrix.tobytes(), np.uint8)
    model.buffers.append(buffer)
    names = {entry.name for entry in graph.tensors}
    tensor.name = next(name for i in range(len(names) + 1) if (name := old.name + b"_rows" * (i + 1)) not in names)
    tensor.shape, tensor.type, tensor.buffer = list(matrix.shape), schema.TensorType.FLOAT32, len(model.buffers) - 1
    graph.tensors.append(tensor)
    return len(graph.tensors) - 1


def _forget(model: Any, subgraph: int, matrices: set[int]) -> None:
    """Take the matrices out that nothing reads any more, and their numbers where no other tensor has the same."""
    graph = model.subgraphs[subgraph]
    read = {int(index) for op in entries(graph.operators) for index in entries(op.inputs)}
    gone = matrices - read - {int(index) for index in entries(graph.outputs)}
    buffers = {graph.tensors[index].buffer for index in gone}
    remove(model, subgraph, gone)
    for buffer in buffers - {tensor.buffer for each in model.subgraphs for tensor in each.tensors}:
        model.buffers[buffer].data = None
