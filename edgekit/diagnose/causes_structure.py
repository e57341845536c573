"""Causes that cost time, not accuracy: float ops between int8 ones, with a conversion at every border."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from edgekit.diagnose.causes import Evidence
from edgekit.diagnose.compare_layers import Comparison
from edgekit.diagnose.schema import Finding
from edgekit.quantize.graph import Op
from edgekit.quantize.kernels import DEFAULT_SCHEME, SCHEMES


def float_islands(evidence: Evidence) -> Iterator[Finding]:
    """Find groups of float ops that int8 ops feed and read; those of the same kinds are one finding."""
    found = evidence.found
    int8 = _int8_ops(found)
    total = sum(_size(found, name) for op in found.graph.ops for name in op.outputs)
    alike: dict[tuple[str, ...], list[_Island]] = {}
    for members in _groups(found, int8):
        borders = _borders(found, members, int8)
        if total and len({inside for _, inside in borders}) == 2:
            ops = [found.graph.ops[position] for position in sorted(members)]
            island = _Island(ops, len(borders), sum(_size(found, name) for name, _ in borders))
            alike.setdefault(tuple(op.kind for op in ops), []).append(island)
    for islands in alike.values():
        ops = [op for island in sorted(islands, key=lambda each: -each.converted) for op in island.ops]
        converted = sum(island.converted for island in islands)
        places = f" in {len(islands)} places" if len(islands) > 1 else ""
        yield Finding(
            cause="float-island", harm="latency", blame=min(1.0, converted / total), where=[op.name for op in ops],
            proof=f"{len(ops)} float op(s) between int8 ones{places}, {sum(each.borders for each in islands)} "
            f"border(s): {converted:,} of {total:,} values are converted per inference. "
            f"{_reason(ops, evidence.format)}",
            cure="Use an activation with an int8 kernel (ReLU, ReLU6), or keep its neighbours in float too.",
        )  # fmt: skip


@dataclass(frozen=True)
class _Island:
    """``converted``: how many values cross its ``borders`` per inference."""

    ops: list[Op]
    borders: int
    converted: int


def _int8_ops(found: Comparison) -> set[int]:
    """Return the positions of float ops whose counterpart runs in int8, or was folded into one that does."""
    positions: set[int] = set()
    for position, op in enumerate(found.graph.ops):
        other = found.artifact.maker(found.pairs[op.outputs[0]]) if op.outputs[0] in found.pairs else None
        if other is not None and found.artifact.computes_in_int8(other):
            positions.add(position)
    folded = {
        position
        for position, op in enumerate(found.graph.ops)
        if op.outputs and op.outputs[0] not in found.pairs and set(found.graph.after(position)) & positions
    }
    return positions | folded


def _groups(found: Comparison, int8: set[int]) -> list[set[int]]:
    floats = {i for i, op in enumerate(found.graph.ops) if op.is_float and i not in int8}
    groups: list[set[int]] = []
    while floats:
        group, waiting = set(), [min(floats)]
        while waiting:
            position = waiting.pop()
            if position in floats:
                floats.discard(position)
                group.add(position)
                waiting += [*found.graph.after(position), *found.graph.before(position)]
        groups.append(group)
    return groups


def _borders(found: Comparison, island: set[int], int8: set[int]) -> list[tuple[str, bool]]:
    """Return the tensors that cross the shore, with whether they come in."""
    graph = found.graph
    borders: dict[tuple[str, bool], None] = {}
    for position in sorted(island):
        for name in graph.ops[position].inputs:
            if name in graph.floats and graph.producers.get(name, -1) in int8:
                borders[name, True] = None
        for name in graph.ops[position].outputs:
            if set(graph.consumers.get(name, ())) & int8:
                borders[name, False] = None
    return list(borders)


def _size(found: Comparison, name: str) -> int:
    return int(np.prod(found.shapes.get(name, (0,))))


def _reason(ops: list[Op], format: str) -> str:
    scheme = SCHEMES[DEFAULT_SCHEME[format]]
    kinds = {op.kind for op in ops}
    without = sorted(kinds - scheme.int8 - scheme.refused.keys())
    reasons = [f"No int8 kernel: {', '.join(without)}"] if without else []
    reasons += [f"Float on purpose: {scheme.refused[kind]}" for kind in sorted(kinds & scheme.refused.keys())]
    return ". ".join(reasons) or "All of them have int8 kernels"
