"""One call of one Keras operation, as a rule sees it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from edgekit.prune.channels.coupling import IntArray
from edgekit.prune.channels.recorder import Flow, Path, Recorder, Shape


@dataclass(frozen=True)
class Call:
    """One call of one operation, as a rule sees it."""

    recorder: Recorder
    key: str
    operation: Any
    inputs: Sequence[Flow]
    output_shapes: Sequence[Shape]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    index: int = 0  # among the calls of this operation

    def leaves(self) -> list[tuple[Path, Any]]:
        """Return every argument that is no tensor of the graph, with its path in the operation's entry."""
        found: list[tuple[Path, Any]] = []
        _collect(self.args, ("inbound_nodes", self.index, "args"), found)
        _collect(self.kwargs, ("inbound_nodes", self.index, "kwargs"), found)
        return found

    def weight(self, name: str) -> int | None:
        """Return the index of a weight of the layer by name, or None where the layer has no such weight."""
        names = [weight.name for weight in self.operation.weights]
        return names.index(name) if name in names else None

    def axis(self, weight: str, axis: int, role: str, ids: IntArray) -> None:
        index = self.weight(weight)
        if index is not None:
            self.recorder.axis(self.key, index, axis, role, ids)

    def axis_of(self, variable: Any | None, axis: int, role: str, ids: IntArray) -> None:
        """Record an axis of a weight given itself, where sublayers repeat names; None (no bias) is nothing."""
        if variable is not None:
            index = [weight is variable for weight in self.operation.weights].index(True)
            self.recorder.axis(self.key, index, axis, role, ids)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of a layer's call by name, each tensor as its Flow."""
        flows = iter(self.inputs)

        def follow(leaf: Any) -> Any:
            return next(flows) if isinstance(leaf, keras.KerasTensor) else leaf

        args, kwargs = keras.tree.map_structure(follow, (self.args, self.kwargs))
        return dict(inspect.signature(self.operation.call).bind(*args, **kwargs).arguments)


Followed = Sequence[IntArray | Flow]
"""Per output of a call: the ids along its last axis, or a Flow where they may lie along another."""
Rule = Callable[[Call], Followed]
"""Follows the channels through one call."""


def _collect(value: Any, path: Path, found: list[tuple[Path, Any]]) -> None:
    """Walk nested arguments; a list of plain numbers is one array, anything else is a leaf of its own."""
    if isinstance(value, dict):
        for name, item in value.items():
            _collect(item, (*path, name), found)
    elif isinstance(value, list | tuple) and not all(isinstance(item, int | float) for item in value):
        for position, item in enumerate(value):
            _collect(item, (*path, position), found)
    elif not isinstance(value, keras.KerasTensor):
        found.append((path, value))


def opaque(call: Call, reason: str) -> list[IntArray]:
    """Freeze what goes in and what comes out of an operation that no rule covers."""
    for flow in call.inputs:
        call.recorder.channels.freeze(flow.ids, f"feeds '{call.key}': {reason}")
    outputs = []
    for shape in call.output_shapes:
        ids = call.recorder.channels.fresh((shape[-1] or 0) if len(shape) > 1 else 0)
        call.recorder.channels.freeze(ids, f"comes from '{call.key}': {reason}")
        outputs.append(ids)
    return outputs
