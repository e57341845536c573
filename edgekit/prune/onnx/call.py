"""One node as a rule sees it: the channels that come in, and where to note what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgekit.prune.channels.coupling import IntArray
from edgekit.prune.channels.recorder import Flow, Recorder, Shape
from edgekit.prune.onnx.network import Array, Network, Node


@dataclass(frozen=True, eq=False)
class NodeCall:
    """``inputs`` holds None where a constant comes in, or nothing."""

    recorder: Recorder
    network: Network
    node: Node
    inputs: tuple[Flow | None, ...]
    output_shapes: tuple[Shape, ...]

    @property
    def key(self) -> str:
        return self.node.name

    @property
    def flows(self) -> list[Flow]:
        return [flow for flow in self.inputs if flow is not None]

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.node.attributes.get(name, default)

    def constant(self, index: int) -> Array | None:
        """Return the constant at an input; None where something computed comes in, or nothing."""
        return self.network.constants.get(self.node.inputs[index]) if index < len(self.node.inputs) else None

    def given(self, index: int) -> bool:
        """Say whether an optional input is there."""
        return index < len(self.node.inputs) and bool(self.node.inputs[index])

    def computed(self, index: int) -> bool:
        return self.given(index) and self.constant(index) is None

    def weight(self, index: int, axis: int, role: str, ids: IntArray) -> None:
        """Record that the positions of one axis of a constant are the channels ``ids``."""
        if self.constant(index) is None:
            return
        owner, place = self.network.owners[self.node.inputs[index]]
        self.recorder.axis(owner, place, axis, role, ids)
        if self.recorder.axes[owner, place, axis].role != role:
            self.freeze(ids, f"its weight is read in two ways, by '{owner}' and '{self.key}'")

    def size(self, index: int, position: int, ids: IntArray) -> None:
        """Record that a number in a constant of sizes counts the channels ``ids``."""
        self.recorder.number(self.key, ("input", index, position), ids)

    def freeze(self, ids: IntArray, reason: str) -> None:
        self.recorder.channels.freeze(ids, reason)

    def is_live(self, flow: Flow) -> bool:
        """Say whether any channel of a tensor may still go."""
        channels = self.recorder.channels
        return any(channels.frozen_because(identity) is None for identity in flow.ids.tolist())

    def along(self, index: int, axis: int) -> IntArray:
        """Return the channels of an input along ``axis`` (negative); where they lie elsewhere, all is frozen."""
        flow = self.inputs[index]
        assert flow is not None
        if flow.axis == axis:
            return flow.ids
        self.freeze(flow.ids, f"'{self.key}' reads its channels along another axis")
        size = flow.shape[axis] if len(flow.shape) >= -axis else 1
        return self.fixed(size or 0, f"feeds '{self.key}' along an axis that is not followed")

    def fixed(self, count: int, reason: str) -> IntArray:
        """Return new channels that always stay."""
        ids = self.recorder.channels.fresh(count)
        self.freeze(ids, reason)
        return ids


NodeRule = Callable[[NodeCall], list[Flow]]
"""Follows the channels through one node; returns a Flow per output."""


def opaque(call: NodeCall, reason: str) -> list[Flow]:
    """Freeze what goes in and what comes out of an operator that no rule covers."""
    for flow in call.flows:
        call.freeze(flow.ids, f"feeds '{call.key}': {reason}")
    return [fixed_flow(call, shape, f"comes from '{call.key}': {reason}") for shape in call.output_shapes]


def fixed_flow(call: NodeCall, shape: Shape, reason: str) -> Flow:
    """Return a tensor whose channels always stay, by convention along the second axis."""
    axis = default_axis(shape)
    return Flow(shape, call.fixed((shape[axis] or 0) if shape else 0, reason), axis)


def default_axis(shape: Shape) -> int:
    """Return where the channels of a tensor lie that nothing else is known of: behind the batch."""
    return 1 - len(shape) if len(shape) > 1 else -1


def passes(call: NodeCall, index: int = 0) -> list[Flow]:
    """Keep the channels of one input as they are, in every output."""
    source = call.inputs[index]
    if source is None or any(
        len(shape) < -source.axis or shape[source.axis] != len(source.ids) for shape in call.output_shapes
    ):
        return opaque(call, f"{call.node.op} changes the channels")
    return [Flow(shape, source.ids, source.axis) for shape in call.output_shapes]
