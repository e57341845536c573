"""Activations into the ops in front of them, as TFLite's own converter writes them; other converters do not.

XNNPACK runs an int8 ADD or CONV_2D that ends in a ReLU; it has no int8 ReLU that stands alone, so the interpreter's
reference kernel does it: BlazeFace of MediaPipe, with 17 of them, ran at 0.16x the speed of float32 so.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from edgekit.source.tflite_file import entries, kind_of

_ACTIVATIONS = {
    "RELU": schema.ActivationFunctionType.RELU,
    "RELU6": schema.ActivationFunctionType.RELU6,
    "RELU_N1_TO_1": schema.ActivationFunctionType.RELU_N1_TO_1,
}
_TAKES_ONE = {
    "ADD": (schema.BuiltinOptions.AddOptions, schema.AddOptionsT),
    "SUB": (schema.BuiltinOptions.SubOptions, schema.SubOptionsT),
    "MUL": (schema.BuiltinOptions.MulOptions, schema.MulOptionsT),
    "CONV_2D": (schema.BuiltinOptions.Conv2DOptions, schema.Conv2DOptionsT),
    "DEPTHWISE_CONV_2D": (schema.BuiltinOptions.DepthwiseConv2DOptions, schema.DepthwiseConv2DOptionsT),
    "FULLY_CONNECTED": (schema.BuiltinOptions.FullyConnectedOptions, schema.FullyConnectedOptionsT),
}


def fuse_activations(model: Any) -> bool:
    """Let the op in front do each ReLU whose input nothing else reads, in place; the numbers stay the same.

    Only between float32 tensors. Returns whether there were any.
    """
    kinds = [kind_of(code) for code in model.operatorCodes]
    changed = False
    for number, graph in enumerate(model.subgraphs):
        if gone := _fuse(graph, kinds):
            remove(model, number, gone)
            changed = True
    return changed


def _fuse(graph: Any, kinds: list[str]) -> set[int]:
    """Fuse what can be; return the tensors that no op makes any more."""
    operators = entries(graph.operators)
    makers = {index: op for op in operators for index in entries(op.outputs)}
    readers = Counter(index for op in operators for index in entries(op.inputs))
    readers.update(entries(graph.outputs))
    kept, gone = [], set()
    for op in operators:
        activation = _ACTIVATIONS.get(kinds[op.opcodeIndex])
        maker = makers.get(op.inputs[0]) if activation is not None else None
        if (
            activation is None
            or maker is None
            or readers[op.inputs[0]] != 1
            or graph.tensors[op.inputs[0]].type != schema.TensorType.FLOAT32
            or not _add(maker, kinds[maker.opcodeIndex], activation)
        ):
            kept.append(op)
            continue
        gone.add(int(op.inputs[0]))
        maker.outputs = op.outputs
        makers[op.outputs[0]] = maker
    graph.operators = kept
    return gone


def remove(model: Any, subgraph: int, gone: set[int]) -> None:
    """Take tensors that nothing refers to out of a graph: who calibrates asks every tensor for its values."""
    graph = model.subgraphs[subgraph]
    signatures = [each for each in entries(model.signatureDefs) if each.subgraphIndex == subgraph]
    stay = [index for index in range(len(graph.tensors)) if index not in gone]
    places = {old: new for new, old in enumerate(stay)} | {-1: -1}  # -1: an optional input that is left out
    graph.tensors = [graph.tensors[index] for index in stay]
    for holder in (graph, *entries(graph.operators)):
        holder.inputs = [places[int(index)] for index in entries(holder.inputs)]
        holder.outputs = [places[int(index)] for index in entries(holder.outputs)]
    for op in entries(graph.operators):
        op.intermediates = [places[int(index)] for index in entries(op.intermediates)]
    for signature in signatures:
        for entry in (*entries(signature.inputs), *entries(signature.outputs)):
            entry.tensorIndex = places[entry.tensorIndex]


def _add(op: Any, kind: str, activation: int) -> bool:
    """Give an op the activation behind it, if it can have one and has none."""
    if kind not in _TAKES_ONE:
        return False
    if op.builtinOptions is None:
        op.builtinOptionsType, made = _TAKES_ONE[kind][0], _TAKES_ONE[kind][1]
        op.builtinOptions = made()
    if op.builtinOptions.fusedActivationFunction != schema.ActivationFunctionType.NONE:
        return False
    op.builtinOptions.fusedActivationFunction = activation
    return True
