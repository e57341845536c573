from __future__ import annotations

import numpy as np
import prune_graphs
import pytest

from edgekit.errors import RecipeError
from edgekit.prune.keras.graph import ChannelGraph, analyze
from edgekit.prune.selection.cost import COUNTED
from edgekit.prune.selection.greedy import select
from edgekit.prune.selection.ledger import Ledger, total
from edgekit.prune.selection.limits import largest_cuts

pytestmark = pytest.mark.slow


def some_kept(graph: ChannelGraph) -> np.ndarray:
    return np.random.default_rng(1).random(graph.unit_count) < 0.6


@pytest.mark.parametrize("name", prune_graphs.GRAPHS)
def test_macs_and_parameters_are_the_graphs_own_counts(name: str) -> None:
    graph = analyze(prune_graphs.build(name))
    kept = some_kept(graph)
    assert total(COUNTED["macs"]().parts(graph), kept) == graph.macs(kept)
    assert total(COUNTED["parameters"]().parts(graph), kept) == graph.params(kept)
    assert total(COUNTED["uniform"]().parts(graph), kept) == np.count_nonzero(kept)


@pytest.mark.parametrize("cost", COUNTED)
def test_a_ledger_that_moved_says_what_counting_anew_says(cost: str) -> None:
    graph = analyze(prune_graphs.build("concat_add_two_outputs"))
    ledger, kept = Ledger(graph, COUNTED[cost]()), graph.all_kept()
    for block, units in [(0, 3), (1, 5), (0, 8)]:
        gone = [unit for unit in graph.blocks[block].units if kept[unit]][:units]
        kept[gone] = False
        expected = ledger.total + ledger.change(block, -units)
        ledger.move(block, -units)
        assert ledger.total == expected == total(ledger.parts, kept)


@pytest.mark.parametrize("cost", COUNTED)
def test_each_cost_reaches_its_own_target(cost: str) -> None:
    graph = analyze(prune_graphs.build("chain"))
    selection = select(graph, np.ones(graph.unit_count), COUNTED[cost](), 0.6, max_layer_cut=0.75)
    assert selection.reached
    assert selection.cost.after / selection.cost.before == selection.cost.share <= 0.6
    assert selection.cost.after == total(COUNTED[cost]().parts(graph), selection.mask(graph))


def test_the_target_may_be_a_share_of_another_cost() -> None:
    graph = analyze(prune_graphs.build("chain"))
    ones = np.ones(graph.unit_count)
    selection = select(graph, ones, COUNTED["parameters"](), 0.6, keep_of=COUNTED["macs"](), max_layer_cut=0.75)
    assert selection.cost.name == "macs"
    assert selection.macs_after <= 0.6 * selection.macs_before


def test_a_protected_layer_keeps_its_width_and_a_limited_one_most_of_it() -> None:
    graph = analyze(prune_graphs.build("chain"))
    first, second = graph.blocks[0], graph.blocks[1]
    selection = select(
        graph, np.ones(graph.unit_count), COUNTED["macs"](), 0.0, round_to=1, min_channels=1, max_layer_cut=0.75,
        limits={second.layers[0]: 0.25}, protect=(first.layers[0][:-1] + "?",),
    )  # fmt: skip
    after = {width.layers: width.after / width.before for width in selection.widths}
    assert after.pop(first.layers) == 1.0
    assert after.pop(second.layers) == 0.75
    assert all(share == 0.25 for share in after.values())


def test_the_strictest_of_two_patterns_holds() -> None:
    graph = analyze(prune_graphs.build("chain"))
    assert set(largest_cuts(graph, 0.5, {"*": 0.4}, ())) == {0.4}
    assert set(largest_cuts(graph, 0.5, {"*": 0.9}, ())) == {0.9}
    assert largest_cuts(graph, 0.5, {"*": 0.9, graph.blocks[0].layers[0]: 0.2}, ())[0] == 0.2


def test_a_pattern_that_names_no_layer_is_an_error_with_close_names() -> None:
    graph = analyze(prune_graphs.build("chain"))
    name = graph.blocks[0].layers[0]
    with pytest.raises(RecipeError, match=f"prune.protect: no layer .* Close: .*{name}"):
        largest_cuts(graph, 0.5, {}, (name + "x",))
