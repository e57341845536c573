from __future__ import annotations

import json

import numpy as np
import prune_graphs
import pytest

from edgekit.prune.keras.graph import analyze
from edgekit.prune.keras.importance import IMPORTANCE
from edgekit.prune.selection.cost import Macs
from edgekit.prune.selection.greedy import select

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", prune_graphs.GRAPHS)
@pytest.mark.parametrize("keep_macs", [0.8, 0.5])
def test_the_mac_target_is_met_or_said_to_be_missed(name: str, keep_macs: float) -> None:
    model = prune_graphs.build(name)
    graph = analyze(model)
    selection = select(graph, IMPORTANCE["random"](model, graph, {}, 0), Macs(), keep_macs, max_layer_cut=0.75)
    assert selection.reached == (selection.macs_after <= keep_macs * selection.macs_before)
    if name not in ("transformer", "flatten_dense"):  # most of their cost is in layers that must stay
        assert selection.reached


def test_selection_is_deterministic() -> None:
    model = prune_graphs.build("nested")
    graph, again = analyze(model), analyze(model)
    inputs = prune_graphs.samples(model, 8)
    first = select(graph, IMPORTANCE["taylor"](model, graph, inputs, 3), Macs(), 0.5)
    second = select(again, IMPORTANCE["taylor"](model, again, inputs, 3), Macs(), 0.5)
    assert first == second


def test_the_least_important_units_go() -> None:
    graph = analyze(prune_graphs.build("chain"))
    importance = np.ones(graph.unit_count)
    doomed = graph.blocks[1].units[5:21]
    importance[list(doomed)] = 0.0
    selection = select(graph, importance, Macs(), 0.6, round_to=16)
    assert not set(doomed) & set(selection.kept)


def test_widths_are_multiples_and_respect_the_limits() -> None:
    model = prune_graphs.build("concat_add_two_outputs")
    graph = analyze(model)
    selection = select(graph, np.ones(graph.unit_count), Macs(), 0.0, round_to=8, min_channels=8, max_layer_cut=0.5)
    assert {width.before: width.after for width in selection.widths} == {40: 24, 24: 16}
    assert not selection.reached


def test_a_block_narrower_than_the_minimum_is_left_alone() -> None:
    graph = analyze(prune_graphs.build("residual_se_conv"))
    selection = select(graph, np.ones(graph.unit_count), Macs(), 0.0, min_channels=24)
    assert {width.layers: width.after for width in selection.widths}[("squeeze",)] == 16


def test_nothing_more_could_be_kept() -> None:
    """The last chunk removed often overshoots; then another one has to come back."""
    graph = analyze(prune_graphs.build("concat_add_two_outputs"))
    importance = np.random.default_rng(0).random(graph.unit_count)
    selection = select(graph, importance, Macs(), 0.55, round_to=8, max_layer_cut=0.75)
    assert selection.reached
    for block, width in zip(graph.blocks, selection.widths, strict=True):
        gone = [unit for unit in block.units if unit not in selection.kept]
        chunk = sorted(gone, key=lambda unit: importance[unit])[-min(8, width.before - width.after) :]
        mask = selection.mask(graph)
        mask[chunk] = True
        assert not chunk or graph.macs(mask) > selection.cost.target


def test_keeping_everything_removes_nothing() -> None:
    graph = analyze(prune_graphs.build("chain"))
    selection = select(graph, np.ones(graph.unit_count), Macs(), 1.0)
    assert len(selection.kept) == graph.unit_count
    assert selection.macs_after == selection.macs_before


def test_the_summary_is_json() -> None:
    graph = analyze(prune_graphs.build("chain"))
    summary = select(graph, np.ones(graph.unit_count), Macs(), 0.5).summary()
    assert json.loads(json.dumps(summary)) == summary
    assert summary["macs_kept"] == summary["macs_after"] / summary["macs_before"] <= 0.5
