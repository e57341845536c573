"""Cut channels out of an ONNX model, and make the reference that proves nothing else changed."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
from onnx import helper

from edgekit.prune.channels.graph import BoolArray, ChannelGraph, ConfigField, WeightAxis, count_kept, stays
from edgekit.prune.onnx.network import Array, Network, written


def pruned(network: Network, graph: ChannelGraph, kept: BoolArray) -> bytes:
    """Return the smaller model, inputs and outputs as before.

    kept: mask over the units. Raises UnsupportedError where the sliced weights do not fit each other.
    """
    constants = dict(network.constants)
    for name, axes in _axes_by_constant(network, graph).items():
        for axis in axes:
            constants[name] = np.compress(stays(axis.units, kept), constants[name], axis=axis.axis)
    proto = onnx.ModelProto()
    proto.CopyFrom(network.proto)
    for field in graph.fields:
        _edit(network, proto, constants, field, count_kept(field.units, kept))
    return written(proto, constants)


def zeroed(network: Network, graph: ChannelGraph, kept: BoolArray) -> bytes:
    """Return the unpruned model with every weight that reads a removed channel set to zero."""
    constants = dict(network.constants)
    for name, axes in _axes_by_constant(network, graph).items():
        for axis in axes:
            if axis.role == "in":
                shape = [1] * constants[name].ndim
                shape[axis.axis] = -1
                living = stays(axis.units, kept).reshape(shape)
                constants[name] = np.where(living, constants[name], constants[name].dtype.type(0))
    return written(network.proto, constants)


def _axes_by_constant(network: Network, graph: ChannelGraph) -> dict[str, list[WeightAxis]]:
    names = {place: name for name, place in network.owners.items()}
    found: dict[str, list[WeightAxis]] = defaultdict(list)
    for axis in graph.axes:
        found[names[axis.layer, axis.weight]].append(axis)
    return found


def _edit(
    network: Network, proto: onnx.ModelProto, constants: dict[str, Array], field: ConfigField, value: int
) -> None:
    """Write a number of channels into an attribute of a node, or into its constant of sizes."""
    node = next(node for node in proto.graph.node if node.name == field.layer)
    kind, place = field.path[0], field.path[1]
    if kind == "attribute":
        kept = [item for item in node.attribute if item.name != place]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(str(place), value)])
        return
    name = node.input[int(place)]
    constants[name] = constants[name].copy()
    constants[name][int(field.path[2])] = value
