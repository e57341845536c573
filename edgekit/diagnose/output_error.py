"""How far outputs are from the float model's: relative error, the parts of a concatenated output apart.

Beside boxes in pixels, scores of 0..1 weigh nothing in one norm; so each part has its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.quantize.graph import Graph, Op

Array = npt.NDArray[Any]
Outputs = Mapping[str, Array]
CONCATENATIONS = frozenset({"CONCATENATION", "Concat"})
_COPIES = frozenset({"Identity", "Cast", "CAST"})
_TINY = 1e-12


@dataclass(frozen=True)
class Part:
    """A slice of one output along ``axis``; the whole of it where ``stop`` is None."""

    label: str
    output: str
    axis: int = 0
    start: int = 0
    stop: int | None = None

    def of(self, outputs: Outputs) -> Array:
        array = outputs[self.output].astype(np.float64)
        return array if self.stop is None else np.take(array, range(self.start, self.stop), self.axis)


def parts_of(graph: Graph, names: Sequence[str], shapes: Mapping[str, tuple[int, ...]]) -> list[Part]:
    """Return the parts of every float output; ``names`` are the runtime's, in the order of ``graph.outputs``."""
    if len(names) != len(graph.outputs):
        return [Part(name, name) for name in names]
    found = []
    for name, tensor in zip(names, graph.outputs, strict=True):
        op = _maker(graph, tensor)
        slices = concatenated(op, shapes) if op is not None and op.kind in CONCATENATIONS else []
        if slices:
            found += [Part(f"{name}: {part}", name, axis, start, stop) for part, axis, start, stop in slices]
        elif tensor in graph.floats:
            found.append(Part(name, name))
    return found


def concatenated(op: Op, shapes: Mapping[str, tuple[int, ...]]) -> list[tuple[str, int, int, int]]:
    """Return (input, axis, start, stop) of each input of a concatenation; empty where a shape is not known."""
    names = [name for name in op.inputs if name in shapes]
    if len(names) != len(op.inputs) or op.outputs[0] not in shapes or len(names) < 2:
        return []
    whole, first = shapes[op.outputs[0]], shapes[names[0]]
    axes = [i for i, (a, b) in enumerate(zip(whole, first, strict=False)) if a != b]
    if len(axes) != 1 or len(whole) != len(first):
        return []
    axis, start, found = axes[0], 0, []
    for name in names:
        stop = start + shapes[name][axis]
        found.append((name, axis, start, stop))
        start = stop
    return found


def errors(parts: Sequence[Part], reference: Sequence[Outputs], outputs: Sequence[Outputs]) -> dict[str, float]:
    """Return per part norm(difference) / norm(reference) over all samples; infinite where values are not finite."""
    found = {}
    for part in parts:
        signal = noise = 0.0
        for right, got in zip(reference, outputs, strict=True):
            expected, value = part.of(right), part.of(got)
            if expected.shape != value.shape or not np.isfinite(value).all():
                noise = np.inf
                break
            signal += float(np.vdot(expected, expected))
            noise += float(np.vdot(expected - value, expected - value))
        found[part.label] = float(np.sqrt(noise / max(signal, _TINY))) if noise else 0.0
    return found


def _maker(graph: Graph, tensor: str) -> Op | None:
    while (position := graph.producers.get(tensor)) is not None:
        op = graph.ops[position]
        if op.kind not in _COPIES:
            return op
        tensor = op.inputs[0]
    return None
