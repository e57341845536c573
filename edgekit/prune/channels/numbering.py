"""Turn what the rules wrote down into a ``ChannelGraph``."""

from __future__ import annotations

import numpy as np

from edgekit.prune.channels.coupling import Channels, IntArray
from edgekit.prune.channels.graph import (
    Block,
    ChannelGraph,
    ConfigConstant,
    ConfigField,
    Flowing,
    Frozen,
    MacTerm,
    Normalization,
    Operated,
    WeightAxis,
)
from edgekit.prune.channels.recorder import Flow, Recorder


def numbered(recorder: Recorder, weight_shapes: dict[str, tuple[tuple[int, ...], ...]]) -> ChannelGraph:
    """Turn coupled ids into numbered units, and units into blocks. ``weight_shapes``: of every layer that has any."""
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
    calls = tuple(
        Operated(layer, operation, tuple(map(flowing, inputs)), tuple(map(flowing, outputs)), owned)
        for layer, operation, inputs, outputs, owned in recorder.calls
    )
    steps = {int(number[roots[identity]]): step for identity, step in recorder.steps.items()}
    normalizations = tuple(Normalization(layer, units(ids)) for layer, ids in recorder.normalized.items())
    blocks = _blocks(axes, fields, len(free), steps)
    return ChannelGraph(len(free), blocks, frozen, axes, fields, constants, terms, weight_shapes, calls, normalizations)


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
