"""A Keras graph as a flat list of calls on numbered values, so that something can be done to a value on its way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from edgekit.errors import UnsupportedError
from edgekit.prune.keras.functional import inner_graph, nodes_in_order

OnValue = Callable[[int, Any], Any]
"""What becomes of a value: called with its number and its tensor."""


@dataclass(frozen=True)
class Value:
    """Stands in a call's arguments for a tensor that is there only when the program runs."""

    number: int


@dataclass(frozen=True)
class Call:
    """One call of one operation, its tensors as value numbers."""

    operation: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass
class Program:
    """Calls in an order in which each finds its inputs. Nested models are spelled out."""

    inputs: tuple[int, ...] = ()
    outputs: tuple[int, ...] = ()
    calls: list[Call] = field(default_factory=list)
    count: int = 0

    def consumers(self, value: int) -> list[Call]:
        return [call for call in self.calls if value in call.inputs]

    def run(self, inputs: Sequence[Any], on_value: OnValue) -> list[Any]:
        """Compute the outputs in inference mode: batch norm uses its own statistics, nothing is dropped out."""
        values = {number: on_value(number, given) for number, given in zip(self.inputs, inputs, strict=True)}
        for call in self.calls:
            args, kwargs = keras.tree.map_structure(
                lambda item: values[item.number] if isinstance(item, Value) else item, (call.args, call.kwargs)
            )
            if "training" in getattr(call.operation, "_call_context_args", ()):
                kwargs["training"] = False
            made = keras.tree.flatten(call.operation(*args, **kwargs))
            for number, tensor in zip(call.outputs, made, strict=True):
                values[number] = on_value(number, tensor)
        return [values[number] for number in self.outputs]


def trace(model: keras.Model) -> Program:
    """Read the program of a functional or Sequential model; raises UnsupportedError for any other."""
    graph = inner_graph(model)
    if graph is None:
        raise UnsupportedError(
            f"model '{model.name}' is a {type(model).__name__}, not a functional graph, and cannot be fine-tuned",
            "Rebuild it with keras.Model(inputs, outputs), or set [quantize] finetune = false.",
        )
    program = Program()
    program.inputs = tuple(_fresh(program, len(graph.inputs)))
    program.outputs = tuple(_walk(program, graph, program.inputs))
    return program


def _walk(program: Program, graph: Any, inputs: Sequence[int]) -> list[int]:
    known = {id(tensor): Value(number) for tensor, number in zip(graph.inputs, inputs, strict=True)}
    for node in nodes_in_order(graph):
        if not node.operation or node.is_input:
            continue
        args, kwargs = node.arguments.fill_in(known)
        read = tuple(known[id(tensor)].number for tensor in node.input_tensors)
        inner = inner_graph(node.operation)
        if inner is None:
            made = tuple(_fresh(program, len(node.outputs)))
            program.calls.append(Call(node.operation, tuple(args), dict(kwargs), read, made))
        else:
            made = tuple(_walk(program, inner, read))
        known.update({id(tensor): Value(number) for tensor, number in zip(node.outputs, made, strict=True)})
    return [known[id(tensor)].number for tensor in graph.outputs]


def _fresh(program: Program, count: int) -> range:
    program.count += count
    return range(program.count - count, program.count)
