"""Recurrent layers: a unit is one column in every gate, and one row of the kernels that read it.

A removed unit is one whose state nobody reads: neither the next step (recurrent kernel) nor the next layer.
Gates are side by side along the last axis of each kernel (LSTM 4, GRU 3), so a unit occurs once per gate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.prune.channels.coupling import IntArray
from edgekit.prune.channels.recorder import Flow
from edgekit.prune.keras.call import Call, Rule, opaque
from edgekit.prune.keras.rules_elementwise import ELEMENTWISE_ACTIVATIONS

_GATES = {"LSTMCell": 4, "GRUCell": 3, "SimpleRNNCell": 1, "ConvLSTMCell": 4}
_STATES = {"LSTMCell": 2, "GRUCell": 1, "SimpleRNNCell": 1, "ConvLSTMCell": 2}


@dataclass(frozen=True)
class _Cell:
    """One cell of a recurrent layer, and where its width stands in the layer's config."""

    layer: Any
    field: str

    @property
    def kind(self) -> str:
        return type(self.layer).__name__

    @property
    def width(self) -> int:
        return int(self.layer.recurrent_kernel.shape[-2])


def _cells(layer: Any, path: str) -> list[_Cell]:
    """Return the cells of a recurrent layer; an empty list where one of them is unknown."""
    cell = layer.cell
    if type(cell).__name__ == "StackedRNNCells":
        found = [_Cell(part, f"{path}cell.config.cells.{n}.config.units") for n, part in enumerate(cell.cells)]
    elif type(layer).__name__ == "RNN":
        found = [_Cell(cell, f"{path}cell.config.units")]
    else:
        found = [_Cell(cell, path + ("filters" if type(cell).__name__ == "ConvLSTMCell" else "units"))]
    known = all(type(item.layer).__module__.startswith("keras.") and item.kind in _GATES for item in found)
    return found if known else []


def _why_not_cut(layers: list[Any]) -> str | None:
    """Return why recurrent layers cannot be sliced, or None."""
    for layer in layers:
        if getattr(layer, "cell", None) is None or not _cells(layer, ""):
            return "its cell has no pruning rule"
        if layer.stateful:
            return "it keeps its state from one call to the next"
        if getattr(layer.cell, "data_format", "channels_last") == "channels_first":
            return "data_format is channels_first"
    return None


def _run(call: Call, layer: Any, path: str, made: IntArray) -> tuple[IntArray, list[IntArray]]:
    """Follow one recurrent layer whose cells make the units ``made``; return its output and its states."""
    recorder, ids, states = call.recorder, call.inputs[0].ids, []
    steps = call.inputs[0].shape[1] or 1
    start = 0
    for cell in _cells(layer, path):
        units = made[start : start + cell.width]
        start += cell.width
        kernel, recurrent, bias = cell.layer.kernel, cell.layer.recurrent_kernel, cell.layer.bias
        gates, rank = np.tile(units, _GATES[cell.kind]), len(kernel.shape)
        call.axis_of(kernel, rank - 2, "in", ids)
        call.axis_of(kernel, rank - 1, "out", gates)
        call.axis_of(recurrent, rank - 2, "in", units)
        call.axis_of(recurrent, rank - 1, "out", gates)
        if bias is not None:
            call.axis_of(bias, len(bias.shape) - 1, "through", gates)  # (2, 3 x units) for reset_after
        recorder.field(call.key, cell.field, None, units)
        space = math.prod(size or 1 for size in call.output_shapes[0][1 - rank : -1])
        area = math.prod(kernel.shape[:-2])
        recorder.cost(call.key, steps * space * area, ids, gates)
        recorder.cost(call.key, steps * space * math.prod(recurrent.shape[:-2]), units, gates)
        for attribute in ("activation", "recurrent_activation"):
            function = getattr(cell.layer, attribute, None)
            if function is not None and function.__name__ not in ELEMENTWISE_ACTIVATIONS:
                recorder.channels.freeze(units, f"goes through the activation '{function.__name__}'")
        states += [units] * _STATES[cell.kind]
        ids = units
    return ids, states


def _couple_initial_state(call: Call, states: list[IntArray]) -> bool:
    """Tie a given initial state to the units it starts; False where they do not fit one to one."""
    given = call.arguments()
    if isinstance(given.get("mask"), Flow):
        call.recorder.channels.freeze(given["mask"].ids, f"is the mask of '{call.key}'")
    start = given.get("initial_state")
    if start is None:
        return True
    parts = [start] if isinstance(start, Flow) else list(start)
    if not all(isinstance(part, Flow) for part in parts):
        return False
    if [len(part.ids) for part in parts] != [len(ids) for ids in states]:
        return False
    for part, units in zip(parts, states, strict=True):
        call.recorder.channels.couple(part.ids, units)
    return True


def _finish(call: Call, made: IntArray, outputs: list[IntArray], states: list[IntArray]) -> list[IntArray]:
    """Return outputs and states, or freeze the layer where they are not what Keras returned."""
    found = outputs + states if len(call.output_shapes) > len(outputs) else outputs
    fits = [len(ids) for ids in found] == [shape[-1] for shape in call.output_shapes]
    if not _couple_initial_state(call, states) or not fits:
        call.recorder.channels.freeze(made, "has outputs or an initial state that cannot be followed")
        return opaque(call, "its outputs or its initial state cannot be followed")
    return found


def _width(layer: Any) -> int:
    return sum(cell.width for cell in _cells(layer, ""))


def _recurrent(call: Call) -> list[IntArray]:
    layer = call.operation
    problem = _why_not_cut([layer])
    if problem is not None:
        return opaque(call, problem)
    made = call.recorder.produce(call.key, _width(layer))
    output, states = _run(call, layer, "", made)
    return _finish(call, made, [output], states)


def _bidirectional(call: Call) -> list[IntArray]:
    """Follow both directions; Keras gives them one width, so unit n of one goes together with unit n of the other."""
    wrapper = call.operation
    directions = [(wrapper.forward_layer, "layer.config."), (wrapper.backward_layer, "backward_layer.config.")]
    problem = _why_not_cut([layer for layer, _ in directions])
    if problem is None and len({tuple(cell.width for cell in _cells(layer, "")) for layer, _ in directions}) > 1:
        problem = "its two directions differ in width"
    if problem is not None:
        return opaque(call, problem)
    made = call.recorder.produce(call.key, _width(wrapper.forward_layer))
    (ahead, states), (back, more) = [_run(call, layer, path, made) for layer, path in directions]
    outputs = {None: [ahead, back], "concat": [np.concatenate([ahead, back])]}.get(wrapper.merge_mode, [ahead])
    return _finish(call, made, outputs, states + more)


_LAYERS = ["LSTM", "GRU", "SimpleRNN", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"]
RULES: dict[str, Rule] = {**dict.fromkeys(_LAYERS, _recurrent), "Bidirectional": _bidirectional}
