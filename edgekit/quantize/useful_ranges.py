"""Where a tensor's readers cannot tell values apart: hard-swish is 0 below -3, a hard gate flat outside -3 to 3.

Steps spent there are lost, and leaving them out changes no answer.
"""

from __future__ import annotations

import math

from edgekit.quantize.graph import Graph, Op

_KNEE = 3.1  # a little beyond: the grid need not meet 3 itself
Limits = dict[str, tuple[float, float]]


def useful_limits(graph: Graph) -> Limits:
    """Return (low, high) for every tensor all of whose readers are flat outside; no output of the model."""
    found: Limits = {}
    for tensor in graph.floats - set(graph.outputs):
        readers = [graph.ops[position] for position in graph.consumers.get(tensor, ())]
        kinds = {reader.kind for reader in readers}
        if kinds == {"HARD_SWISH"} or _is_hard_swish(tensor, readers, graph):
            found[tensor] = (-_KNEE, math.inf)
        elif kinds == {"HardSigmoid"}:
            found[tensor] = (-_KNEE, _KNEE)
    return found


def narrowed(bounds: tuple[float, float], limits: tuple[float, float]) -> tuple[float, float]:
    """Return the part of a range that matters; it still holds 0."""
    return max(bounds[0], limits[0]), min(bounds[1], limits[1])


def _is_hard_swish(tensor: str, readers: list[Op], graph: Graph) -> bool:
    """Recognize x * HardSigmoid(x), which is how ONNX files spell it."""
    gates = {reader.outputs[0] for reader in readers if reader.kind == "HardSigmoid"}
    products = [reader for reader in readers if reader.kind == "Mul"]
    return (
        len(readers) == len(gates) + len(products)
        and len(gates) == 1
        and len(products) == 1
        and set(products[0].inputs) == {tensor, *gates}
        and all(len(graph.consumers.get(gate, ())) == 1 for gate in gates)
    )
