"""The channel graph of a Keras model: follow every channel from layer to layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from edgekit.prune.channels.graph import ChannelGraph
from edgekit.prune.channels.numbering import numbered
from edgekit.prune.channels.recorder import Flow, Recorder
from edgekit.prune.keras.call import Call, Followed, opaque
from edgekit.prune.keras.functional import as_functional, call_indices, graph_inside, nodes_in_order, operations
from edgekit.prune.keras.rules import ANY_AXIS, RULES


def analyze(model: keras.Model) -> ChannelGraph:
    """Find the prunable units of a functional model. What no rule covers is frozen, never guessed.

    Unknown spatial sizes count as 1 in the MACs, so their ratios stay meaningful where sizes are static.
    """
    functional = as_functional(model)
    recorder = Recorder()
    flows: dict[int, Flow] = {}
    for tensor in functional.inputs:
        shape = tuple(tensor.shape)
        flows[id(tensor)] = Flow(shape, recorder.channels.fresh((shape[-1] or 0) if len(shape) > 1 else 0))
        recorder.channels.freeze(flows[id(tensor)].ids, "is a model input")
    _walk(recorder, functional, flows, "")
    for tensor in functional.outputs:
        recorder.channels.freeze(flows[id(tensor)].ids, f"is the model output '{tensor._keras_history[0].name}'")
    shapes = {
        key: tuple(tuple(weight.shape) for weight in layer.weights)
        for key, layer in operations(functional).items()
        if isinstance(layer, keras.Layer)
    }
    return numbered(recorder, shapes)


def _walk(recorder: Recorder, graph: keras.Model, flows: dict[int, Flow], prefix: str) -> None:
    """Follow the channels of one graph; ``flows`` holds those of its inputs and receives all others."""
    places = call_indices(graph)
    for node in nodes_in_order(graph):
        operation = node.operation
        key = prefix + operation.name
        if node.is_input:
            flow = flows[id(node.output_tensors[0])]
            recorder.field(key, "batch_shape", flow.axis, flow.ids)
            continue
        inputs = [flows[id(tensor)] for tensor in node.input_tensors]
        inner = None if _steps_are_channels(operation, inputs) else graph_inside(operation)
        if inner is not None:
            steps = [_one_step(flow) for flow in inputs] if _timed(operation) else inputs
            inside = {id(tensor): flow for tensor, flow in zip(inner.inputs, steps, strict=True)}
            times = (inputs[0].shape[1] or 1) if _timed(operation) else 1
            _walk(replace(recorder, times=recorder.times * times), inner, inside, key + "/")
            outputs: Followed = [inside[id(tensor)] for tensor in inner.outputs]
        else:
            shapes = [tuple(tensor.shape) for tensor in node.output_tensors]
            args, kwargs = node.arguments.args, node.arguments.kwargs
            first = len(recorder.macs)
            outputs = _apply_rule(Call(recorder, key, operation, inputs, shapes, args, kwargs, places[id(node)]))
        made = [
            Flow(tuple(tensor.shape), output.ids, output.axis)
            if isinstance(output, Flow)
            else Flow(tuple(tensor.shape), output)
            for tensor, output in zip(node.output_tensors, outputs, strict=True)
        ]
        flows.update(zip(map(id, node.output_tensors), made, strict=True))
        if inner is None:
            once = operation if recorder.times == 1 else None
            recorder.calls.append((key, once, inputs, made, range(first, len(recorder.macs))))


def _apply_rule(call: Call) -> Followed:
    kind = type(call.operation)
    if _steps_are_channels(call.operation, call.inputs):
        return opaque(call, "its channels lie along time")
    if _timed(call.operation):
        return _apply_rule(_without_time(call))
    name = kind.__name__
    if not kind.__module__.startswith("keras.") or name not in RULES:  # a user's class may share the name
        return opaque(call, f"{name} has no pruning rule")
    if name not in ANY_AXIS and any(flow.axis != -1 for flow in call.inputs):
        return opaque(call, "channels do not lie along the last axis")
    return RULES[name](call)


def _timed(operation: Any) -> bool:
    """Say whether an operation calls another layer for every step of a sequence."""
    return type(operation) is keras.layers.TimeDistributed


def _steps_are_channels(operation: Any, inputs: Sequence[Flow]) -> bool:
    return _timed(operation) and any(flow.axis == 1 - len(flow.shape) for flow in inputs)


def _one_step(flow: Flow) -> Flow:
    """Take the axis of time, which is the second, out of a tensor."""
    return Flow((flow.shape[0], *flow.shape[2:]), flow.ids, flow.axis)


def _without_time(call: Call) -> Call:
    """Return what a layer inside TimeDistributed sees: one step of the sequence; its weights are the wrapper's."""
    recorder, steps = call.recorder, call.inputs[0].shape[1] or 1
    return replace(
        call,
        recorder=replace(recorder, config=(*recorder.config, "layer", "config"), times=recorder.times * steps),
        operation=call.operation.layer,
        inputs=[_one_step(flow) for flow in call.inputs],
        output_shapes=[(shape[0], *shape[2:]) for shape in call.output_shapes],
    )
