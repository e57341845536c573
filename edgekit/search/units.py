"""What the search switches together: a weighted op with the unweighted ops that follow it up to the next one."""

from __future__ import annotations

from dataclasses import dataclass

from edgekit.quantize.graph import Graph
from edgekit.quantize.plan import Plan


@dataclass(frozen=True)
class Unit:
    """Ops that are quantized or left float as one; named after the first."""

    name: str
    kind: str
    ops: tuple[str, ...]


def units_of(graph: Graph, plan: Plan) -> tuple[Unit, ...]:
    """Group the ops that ``plan`` quantizes, in graph order; an op joins the unit that made its first input."""
    quantized = {decision.op for decision in plan.decisions if decision.precision != "float32"}
    members: dict[str, list[str]] = {}
    kinds: dict[str, str] = {}
    unit_of: dict[str, str] = {}
    for op in graph.ops:
        if op.name not in quantized:
            continue
        made = next((unit_of[tensor] for tensor in op.inputs if tensor in unit_of), "")
        unit = op.name if op.weighted or not made else made
        kinds.setdefault(unit, op.kind)
        members.setdefault(unit, []).append(op.name)
        unit_of.update(dict.fromkeys(op.outputs, unit))
    return tuple(Unit(name, kinds[name], tuple(ops)) for name, ops in members.items())
