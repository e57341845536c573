"""Find activations that multiply a tensor with a squashed form of itself: hard-swish, SiLU, GELU by parts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgekit.quantize.graph import Graph, Op

_WHOLE = frozenset({"HARD_SWISH", "HardSwish"})
_PRODUCTS = frozenset({"MUL", "Mul"})
_HARD = frozenset({"Clip", "HardSigmoid", "RELU6", "MINIMUM", "Min"})
_LONGEST = 6


@dataclass(frozen=True)
class Gate:
    """``inner``: tensors between the input and the output, empty where it is one op."""

    name: str
    hard: bool
    input: str
    inner: tuple[str, ...]
    output: str

    @property
    def tensors(self) -> tuple[str, ...]:
        return (self.input, *self.inner)


def find_gates(graph: Graph) -> list[Gate]:
    """Return the gates of a float graph, in graph order."""
    found = []
    for op in graph.ops:
        if op.kind in _WHOLE:
            found.append(Gate(op.name, True, op.inputs[0], (), op.outputs[0]))
        elif op.kind in _PRODUCTS:
            found += _products(graph, op)
    return found


def _products(graph: Graph, op: Op) -> Iterator[Gate]:
    sides = [name for name in op.inputs if name in graph.floats]
    if len(sides) != 2:
        return
    for kept, other in (sides, sides[::-1]):
        chain = _chain(graph, kept, other)
        if chain is not None:
            kinds = {graph.ops[graph.producers[name]].kind for name in chain}
            inner, output = list(chain), op.outputs[0]
            while (scaled := _scaled(graph, output)) is not None:
                inner.append(output)
                output = scaled
            yield Gate(output, bool(kinds & _HARD), kept, tuple(inner), output)
            return


def _chain(graph: Graph, start: str, end: str) -> list[str] | None:
    """Return the tensors from after ``start`` to ``end`` along ops of one activation without weights, or None."""
    tensors: list[str] = []
    while end != start:
        position = graph.producers.get(end)
        if position is None or len(tensors) == _LONGEST:
            return None
        op = graph.ops[position]
        inputs = [name for name in op.inputs if name in graph.floats]
        if op.weighted or len(inputs) != 1:
            return None
        tensors.append(end)
        end = inputs[0]
    return tensors[::-1] or None


def _scaled(graph: Graph, tensor: str) -> str | None:
    """Return what a multiplication with a constant makes of a tensor that nothing else reads."""
    readers = [graph.ops[position] for position in graph.consumers.get(tensor, ())]
    if len(readers) != 1 or readers[0].kind not in _PRODUCTS or tensor in graph.outputs:
        return None
    return readers[0].outputs[0] if any(name in graph.constants for name in readers[0].inputs) else None
