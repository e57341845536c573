"""Channels that are moved, grouped, padded or scaled: found as the blocks they are, and cut without a trace."""

from __future__ import annotations

from pathlib import Path

import channel_graphs
import keras
import numpy as np
import pytest

from edgekit.prune.keras.functional import copy_model
from edgekit.prune.keras.graph import analyze
from edgekit.prune.keras.signature import Arrays, output_shapes, predict
from edgekit.prune.keras.surgery import prune, verify_exact, zeroed
from edgekit.prune.selection.cost import COUNTED
from edgekit.prune.selection.greedy import select

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("eagerly"),
    # Keras 3.15 saves variables through an __array__ without the copy keyword of numpy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

# Zeroed terms and absent terms sum to the same float32 values; only the order of the sums may differ (~1e-6).
EXACT = 1e-5


def build(name: str) -> channel_graphs.Case:
    """Build one case, with random biases and statistics, so that no two channels are alike."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    case = channel_graphs.CASES[name]()
    random = np.random.default_rng(0)
    for weight in case.model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif weight.name in ("bias", "beta", "moving_mean"):
            weight.assign(random.uniform(0.1, 0.5, weight.shape))  # positive: no ReLU is dead everywhere
    return case


def samples(model: keras.Model) -> Arrays:
    random = np.random.default_rng(1)
    return {item.name: random.random((3, *(size or 8 for size in item.shape[1:])), np.float32) for item in model.inputs}


@pytest.mark.parametrize("name", channel_graphs.CASES)
def test_every_expected_block_is_found_and_cut_exactly(name: str) -> None:
    model, blocks = build(name)
    graph = analyze(model)
    found = sorted((tuple(sorted(block.layers)), len(block.units), block.channels) for block in graph.blocks)
    assert found == blocks
    assert graph.params() == model.count_params()

    order = np.random.default_rng(0).random(graph.unit_count)
    selection = select(graph, order, COUNTED["macs"](), 0.0, round_to=2, min_channels=2)
    assert all(width.after <= 0.75 * width.before for width in selection.widths)
    pruned = prune(model, graph, selection)
    assert pruned.count_params() == selection.params_after < selection.params_before
    assert output_shapes(pruned) == output_shapes(model)

    inputs = samples(model)
    assert verify_exact(model, graph, selection, pruned, inputs) <= EXACT
    whole, cut = predict(model, inputs)["head"], predict(zeroed(model, graph, selection), inputs)["head"]
    assert not np.allclose(whole, cut, rtol=1e-3)  # what was cut did matter


@pytest.mark.parametrize("name", ["split_in_equal_parts", "constants_per_channel", "nested_twice_with_slices"])
def test_edited_calls_survive_saving_and_a_second_cut(name: str, tmp_path: Path) -> None:
    model = build(name).model
    inputs = samples(model)
    for _ in range(2):
        graph = analyze(model)
        selection = select(
            graph, np.random.default_rng(2).random(graph.unit_count), COUNTED["macs"](), 0.7, round_to=2, min_channels=2
        )
        smaller = prune(model, graph, selection)
        assert verify_exact(model, graph, selection, smaller, inputs) <= EXACT
        smaller.save(tmp_path / "model.keras")
        model = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(predict(model, inputs)["head"], predict(smaller, inputs)["head"])


def test_a_copy_computes_with_adapted_statistics() -> None:
    model = build("adapted_normalization").model
    inputs = samples(model)
    np.testing.assert_array_equal(predict(copy_model(model), inputs)["head"], predict(model, inputs)["head"])
