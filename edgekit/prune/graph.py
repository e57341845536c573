"""The channel graph of a model: what can be removed, what must go together, and what it saves.

A *unit* is one decision: all channels, in all layers, that exist or vanish together. A *block* is a set of
units that sit at the same places and are therefore interchangeable; widths are rounded per block.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt

from edgekit.prune.channels import Channels, IntArray
from edgekit.prune.functional import as_functional, call_indices, graph_inside, nodes_in_order, operations
from edgekit.prune.recorder import Call, Flow, Followed, Path, Recorder, Shape, opaque
from edgekit.prune.rules import ANY_AXIS, RULES

Role = Literal["out", "in", "scale", "through"]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class WeightAxis:
    """One axis of one weight whose positions are channels; ``units[i]`` is -1 where position i always stays.

    role: "out" the layer makes these channels, "in" it reads them (zeroing the rows removes the channel),
    "scale" batch-norm gamma, "through" any other per-channel weight.
    """

    layer: str
    weight: int
    axis: int
    role: Role
    units: IntArray


@dataclass(frozen=True, eq=False)
class ConfigField:
    """A number in a layer's entry of the model's config that counts channels, and the path to it."""

    layer: str
    path: Path
    units: IntArray


@dataclass(frozen=True, eq=False)
class ConfigConstant:
    """An array in a layer's entry of the model's config; one of its axes has a value per channel."""

    layer: str
    path: Path
    axis: int
    units: IntArray


@dataclass(frozen=True, eq=False)
class MacTerm:
    """Multiply-accumulates of one call: ``factor`` x kept inputs x kept outputs."""

    layer: str
    factor: int
    inputs: IntArray
    outputs: IntArray

    def count(self, kept: BoolArray) -> int:
        return self.factor * count_kept(self.inputs, kept) * count_kept(self.outputs, kept)


@dataclass(frozen=True, eq=False)
class Flowing:
    """A tensor that an operation reads or makes: its shape, batch first, and the unit of each channel of ``axis``."""

    shape: Shape
    units: IntArray
    axis: int = -1


@dataclass(frozen=True, eq=False)
class Operated:
    """One call of one operation, and which of ``ChannelGraph.mac_terms`` are its.

    operation: None where it runs for every step of a sequence (TimeDistributed): its shapes are those of one.
    """

    layer: str
    operation: Any
    inputs: tuple[Flowing, ...]
    outputs: tuple[Flowing, ...]
    terms: range


@dataclass(frozen=True)
class Block:
    """Interchangeable units, in channel order, and the layers that produce them.

    step: round what stays to multiples of this, and keep at least one, whatever the settings (attention heads,
    of which 1 is a whole matrix); None where the settings decide.
    channels: how many channels of one layer a unit stands for at most (1, or more for groups and anchors).
    """

    layers: tuple[str, ...]
    units: tuple[int, ...]
    step: int | None = None
    channels: int = 1


@dataclass(frozen=True, eq=False)
class Normalization:
    """A layer whose mean and variance run over the channels ``units``."""

    layer: str
    units: IntArray


@dataclass(frozen=True)
class Frozen:
    """A layer whose output width stays, and why."""

    layer: str
    reason: str


@dataclass(frozen=True, eq=False)
class ChannelGraph:
    """Everything pruning needs to know about a model; it refers to layers by key (``outer/inner/name``)."""

    unit_count: int
    blocks: tuple[Block, ...]
    frozen: tuple[Frozen, ...]
    axes: tuple[WeightAxis, ...]
    fields: tuple[ConfigField, ...]
    constants: tuple[ConfigConstant, ...]
    mac_terms: tuple[MacTerm, ...]
    weight_shapes: dict[str, tuple[tuple[int, ...], ...]]
    calls: tuple[Operated, ...]
    normalizations: tuple[Normalization, ...] = ()

    def all_kept(self) -> BoolArray:
        return np.ones(self.unit_count, dtype=np.bool_)

    def macs(self, kept: BoolArray | None = None) -> int:
        """Count multiply-accumulates per sample with the units of the mask ``kept`` (all by default)."""
        mask = self.all_kept() if kept is None else kept
        return sum(term.count(mask) for term in self.mac_terms)

    def macs_per_layer(self, kept: BoolArray | None = None) -> dict[str, int]:
        mask = self.all_kept() if kept is None else kept
        totals: dict[str, int] = {}
        for term in self.mac_terms:
            totals[term.layer] = totals.get(term.layer, 0) + term.count(mask)
        return totals

    def params(self, kept: BoolArray | None = None) -> int:
        """Count weights, batch-norm statistics included, with the units of ``kept`` (all by default)."""
        mask = self.all_kept() if kept is None else kept
        sizes = {layer: [list(shape) for shape in shapes] for layer, shapes in self.weight_shapes.items()}
        for axis in self.axes:
            sizes[axis.layer][axis.weight][axis.axis] = count_kept(axis.units, mask)
        return sum(math.prod(shape) for shapes in sizes.values() for shape in shapes)


def count_kept(units: IntArray, kept: BoolArray) -> int:
    """Count the positions of a channel vector that stay (-1 always does)."""
    return int(np.count_nonzero(stays(units, kept)))


def stays(units: IntArray, kept: BoolArray) -> BoolArray:
    """Say for every position of a channel vector whether it stays."""
    if kept.size == 0:
        return np.ones(units.shape, dtype=np.bool_)
    return (units < 0) | kept[np.maximum(units, 0)]


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
    return _finish(recorder, functional)


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


def _finish(recorder: Recorder, model: keras.Model) -> ChannelGraph:
    """Turn coupled ids into numbered units, and units into blocks."""
    channels = recorder.channels
    roots = channels.classes(np.arange(len(channels)))
    used = {int(root) for record in recorder.axes.values() if record.role == "out" for root in roots[record.ids]}
    free = sorted(root for root in used if channels.frozen_because(root) is None)
    number = np.full(len(channels), -1, dtype=np.int64)
    number[free] = np.arange(len(free))

    def units(ids: IntArray) -> IntArray:
        result: IntArray = number[roots[ids]]
        return result

    def flowing(flow: Flow) -> Flowing:
        return Flowing(flow.shape, units(flow.ids), flow.axis)

    axes = tuple(
        WeightAxis(layer, weight, axis, record.role, units(record.ids))
        for (layer, weight, axis), record in recorder.axes.items()
    )
    fields = tuple(ConfigField(*place, units(ids)) for place, ids in recorder.fields.items())
    constants = tuple(ConfigConstant(*place, units(ids)) for place, ids in recorder.constants.items())
    terms = tuple(
        MacTerm(layer, factor, units(inputs), units(outputs)) for layer, factor, inputs, outputs in recorder.macs
    )
    frozen = tuple(
        Frozen(layer, reason)
        for layer, ids in recorder.produced.items()
        if (reason := _frozen_reason(channels, ids)) is not None
    )
    shapes = {
        key: tuple(tuple(weight.shape) for weight in layer.weights)
        for key, layer in operations(model).items()
        if isinstance(layer, keras.Layer)
    }
    calls = tuple(
        Operated(layer, operation, tuple(map(flowing, inputs)), tuple(map(flowing, outputs)), owned)
        for layer, operation, inputs, outputs, owned in recorder.calls
    )
    steps = {int(number[roots[identity]]): step for identity, step in recorder.steps.items()}
    normalizations = tuple(Normalization(layer, units(ids)) for layer, ids in recorder.normalized.items())
    blocks = _blocks(axes, fields, len(free), steps)
    return ChannelGraph(len(free), blocks, frozen, axes, fields, constants, terms, shapes, calls, normalizations)


def _frozen_reason(channels: Channels, ids: IntArray) -> str | None:
    reasons = [reason for identity in ids.tolist() if (reason := channels.frozen_because(identity)) is not None]
    if not reasons:
        return None
    part = "" if len(reasons) == len(ids) else f"{len(reasons)} of {len(ids)} channels: "
    return part + reasons[0]


def _blocks(
    axes: tuple[WeightAxis, ...], fields: tuple[ConfigField, ...], unit_count: int, steps: dict[int, int]
) -> tuple[Block, ...]:
    """Group units by the multiset of places they occupy: those cost and round alike, and leave the same gap."""
    places: list[list[tuple[int, int]]] = [[] for _ in range(unit_count)]
    layers: list[list[str]] = [[] for _ in range(unit_count)]
    channels = [1] * unit_count
    everywhere: list[WeightAxis | ConfigField] = [*axes, *fields]
    for index, place in enumerate(everywhere):
        found, counts = np.unique(place.units[place.units >= 0], return_counts=True)
        for unit, count in zip(found.tolist(), counts.tolist(), strict=True):
            places[unit].append((index, count))
            if isinstance(place, ConfigField):  # not the kernel: there a recurrent unit has a column per gate
                if place.layer in layers[unit]:
                    channels[unit] = max(channels[unit], count)
            elif place.role == "out" and place.layer not in layers[unit]:
                layers[unit].append(place.layer)
    members: dict[tuple[tuple[int, int], ...], list[int]] = {}
    for unit in range(unit_count):
        members.setdefault(tuple(places[unit]), []).append(unit)
    return tuple(
        Block(tuple(layers[units[0]]), tuple(units), steps.get(units[0]), channels[units[0]])
        for units in members.values()
    )
