"""Run one or two ONNX networks piece by piece, so that a layer can be looked at, or changed, just before it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.prune.onnx.execute import Arrays, Program, each
from edgekit.prune.onnx.network import Array, Network, Node, elements

Values = dict[str, list[Array]]
"""By tensor, its value for each sample; only tensors that something still reads."""
Visit = Callable[[Node, list[Values]], None]
"""Sees a node before it runs in the last network, and after it ran in those before."""


@dataclass(frozen=True)
class _Piece:
    """Nodes between two stops: positions in ``Network.nodes``, what they read of before, and what is read behind."""

    nodes: range
    reads: tuple[str, ...]
    makes: tuple[str, ...]


def walk(networks: Sequence[Network], inputs: Arrays, stops: Sequence[str], visit: Visit) -> None:
    """Compute every tensor of all networks once for all samples, calling ``visit`` before each of the nodes ``stops``.

    The networks have the same nodes in the same order. ``visit`` may change ``constants`` of the last one.
    """
    samples = list(each(inputs))
    values: list[Values] = [
        {name: [sample[name] for sample in samples] for name in network.inputs} for network in networks
    ]
    wanted = set(stops)
    for piece in _pieces(networks[0], wanted):
        first = networks[0].nodes[piece.nodes[0]]
        for index, network in enumerate(networks):
            if index == len(networks) - 1 and first.name in wanted:
                visit(first, values)
            _run(network, piece, values[index], len(samples))
        last = _last_readers(networks[0])
        for found in values:
            for name in [name for name in found if last.get(name, -1) < piece.nodes.stop]:
                del found[name]


def bytes_each(network: Network) -> int:
    """Return the most bytes that one sample's tensors take at once, those that are read later included."""
    last = _last_readers(network)
    alive: dict[str, int] = {}
    most = 0
    for index, node in enumerate(network.nodes):
        alive.update({name: 4 * elements(network.shapes.get(name, ())) for name in node.outputs})
        most = max(most, sum(alive.values()))
        alive = {name: size for name, size in alive.items() if last.get(name, -1) > index}
    return most


def _last_readers(network: Network) -> dict[str, int]:
    last = {
        name: index for index, node in enumerate(network.nodes) for name in (*node.inputs, *node.captured) if name
    }  # fmt: skip
    return last | dict.fromkeys(network.outputs, len(network.nodes))


def _pieces(network: Network, stops: set[str]) -> list[_Piece]:
    starts = [0, *(index for index, node in enumerate(network.nodes) if index and node.name in stops)]
    last = _last_readers(network)
    pieces = []
    for start, end in zip(starts, [*starts[1:], len(network.nodes)], strict=True):
        made = [name for node in network.nodes[start:end] for name in node.outputs if name]
        read = {name for node in network.nodes[start:end] for name in (*node.inputs, *node.captured) if name}
        reads = tuple(sorted(name for name in read - set(made) if name not in network.constants))
        head = set(network.nodes[start].outputs)
        makes = tuple(name for name in made if last.get(name, -1) >= end or (name in head and name))
        pieces.append(_Piece(range(start, end), reads, makes))
    return pieces


def _run(network: Network, piece: _Piece, values: Values, count: int) -> None:
    reads = [name for name in piece.reads if name in values]
    program = Program(_model(network, piece, {name: values[name][0] for name in reads}))
    found = [program({name: values[name][number] for name in program.inputs}) for number in range(count)]
    for name in piece.makes:
        values[name] = [one[name] for one in found]


def _model(network: Network, piece: _Piece, given: Arrays) -> bytes:
    nodes = [network.proto.graph.node[index] for index in piece.nodes]
    read = {name for index in piece.nodes for name in (*network.nodes[index].inputs, *network.nodes[index].captured)}
    graph = helper.make_graph(
        nodes,
        "piece",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in given.items()
        ],
        [onnx.ValueInfoProto(name=name) for name in piece.makes],
        [numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
         for name, array in network.constants.items() if name in read],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=network.proto.opset_import, ir_version=network.proto.ir_version)
    return bytes(model.SerializeToString())
