"""Cutting ONNX graphs: the cut network computes what the original does with the dead channels zeroed."""

from __future__ import annotations

from pathlib import Path

import cut_graphs
import numpy as np
import pytest

from edgekit.prune.onnx import surgery
from edgekit.prune.onnx.analysis import analyze
from edgekit.prune.onnx.execute import answers, difference
from edgekit.prune.onnx.network import read
from edgekit.prune.selection.cost import Macs
from edgekit.prune.selection.greedy import select

EXACT = 1e-5
CUT = {  # the layers whose channels may go, and those that stay
    "chain": ({"first", "second"}, {"classes"}),
    "residual": ({"stem", "inner_0", "inner_1", "outer_0", "outer_1", "inner_2", "outer_2", "shortcut"}, {"classes"}),
    "depthwise": ({"stem", "expand", "project", "last"}, {"classes"}),
    "multiplied": ({"stem", "last"}, {"classes"}),
    "squeeze_excite": ({"stem", "squeeze", "excite", "squeeze_2", "excite_2"}, {"classes"}),
    "branches": ({"stem", "left", "right", "joined"}, {"classes", "map"}),
    "flattened": ({"first", "hidden"}, {"classes"}),
    "split_and_sliced": ({"stem", "one", "part"}, {"classes"}),
    "halves": ({"both"}, {"classes"}),
    "shuffled": ({"stem", "last"}, {"classes"}),
    "grouped": ({"stem", "wide_groups", "small_groups", "last"}, {"classes"}),
    "upsampled": ({"stem", "down", "transposed", "deep"}, {"map"}),
    "rearranged": ({"stem", "deep", "last"}, {"classes"}),
    "padded_shortcut": ({"stem", "wide"}, {"classes"}),
    "normalized": ({"stem", "grouped"}, {"classes"}),
    "transformer": ({"value", "hidden"}, {"query", "key", "patches", "mlp", "attended", "classes"}),
    "shared_head": ({"stem", "down", "head_0"}, {"boxes_0"}),
    "channels_last": ({"first", "second"}, {"classes"}),
    "sequence": ({"first", "second"}, {"classes"}),
}


def test_every_graph_is_listed() -> None:
    assert set(CUT) == set(cut_graphs.GRAPHS)


@pytest.mark.parametrize("name", sorted(cut_graphs.GRAPHS))
def test_cut_network_equals_the_original_with_dead_channels_zeroed(name: str, tmp_path: Path) -> None:
    network = cut_graphs.network(name, tmp_path)
    graph = analyze(network)
    ranking = np.random.default_rng(3).random(graph.unit_count)
    selection = select(graph, ranking, Macs(), 0.4, round_to=2, min_channels=2, max_layer_cut=0.6)
    kept = selection.mask(graph)
    inputs = cut_graphs.samples(network)

    cut = surgery.pruned(network, graph, kept)

    narrowed = {layer for width in selection.widths if width.after < width.before for layer in width.layers}
    assert narrowed <= CUT[name][0]
    expected = answers(surgery.zeroed(network, graph, kept), inputs)
    assert difference(expected, answers(cut, inputs)) <= EXACT
    assert difference(answers(network.proto.SerializeToString(), inputs), expected) > 1e-3  # something was cut
    smaller = read(cut)
    assert analyze(smaller).macs() == selection.macs_after
    assert smaller.parameters == selection.params_after


@pytest.mark.parametrize("name", sorted(cut_graphs.GRAPHS))
def test_layers_that_may_go_and_those_that_stay(name: str, tmp_path: Path) -> None:
    graph = analyze(cut_graphs.network(name, tmp_path))
    free = {layer for block in graph.blocks for layer in block.layers}
    whole = {item.layer for item in graph.frozen if " of " not in item.reason.split(":")[0]}
    assert (free, whole & CUT[name][1]) == CUT[name]
