"""The one test that matters: a pruned model computes what the original does without the removed channels."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import keras
import numpy as np
import prune_graphs
import pytest

from edgekit.prune.keras.functional import weight_array
from edgekit.prune.keras.graph import ChannelGraph, analyze
from edgekit.prune.keras.importance import IMPORTANCE
from edgekit.prune.keras.signature import input_names, output_names, output_shapes, predict
from edgekit.prune.keras.surgery import prune, verify_exact, zeroed
from edgekit.prune.selection.cost import Macs
from edgekit.prune.selection.greedy import Selection, select

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("eagerly"),
    # Keras 3.15 saves variables through an __array__ without the copy keyword of numpy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

# Zeroed terms and absent terms sum to the same float32 values; only the order of the sums may differ (~1e-6).
EXACT = 1e-5


def cut(name: str, keep_macs: float = 0.5) -> tuple[keras.Model, ChannelGraph, Selection, keras.Model]:
    model = prune_graphs.build(name)
    graph = analyze(model)
    order = IMPORTANCE["random"](model, graph, {}, 0)
    selection = select(graph, order, Macs(), keep_macs, round_to=8, min_channels=8)
    return model, graph, selection, prune(model, graph, selection)


cut_once = cache(cut)  # for tests that only read the models


@pytest.mark.parametrize("name", prune_graphs.GRAPHS)
def test_pruned_equals_zeroed_and_is_really_smaller(name: str) -> None:
    model, graph, selection, pruned = cut_once(name)
    inputs = prune_graphs.samples(model)
    before = [weight_array(weight) for weight in model.weights]

    assert verify_exact(model, graph, selection, pruned, inputs) <= EXACT
    assert selection.macs_after < selection.macs_before
    assert sum(int(np.prod(weight.shape)) for weight in pruned.weights) == selection.params_after
    assert selection.params_after < selection.params_before
    assert analyze(pruned).macs() == selection.macs_after
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight_array(weight))


@pytest.mark.parametrize("name", prune_graphs.GRAPHS)
def test_zeroing_changes_the_outputs(name: str) -> None:
    """Without this, equality of pruned and zeroed could be the equality of two constants."""
    model, graph, selection, _ = cut_once(name)
    inputs = prune_graphs.samples(model)
    original, reduced = predict(model, inputs), predict(zeroed(model, graph, selection), inputs)
    assert any(np.abs(original[key] - reduced[key]).max() > 1e-3 for key in original)


@pytest.mark.parametrize("name", prune_graphs.GRAPHS)
def test_signature_survives(name: str) -> None:
    model, _, _, pruned = cut_once(name)
    assert input_names(pruned) == input_names(model)
    assert output_names(pruned) == output_names(model)
    assert output_shapes(pruned) == output_shapes(model)
    if not isinstance(model, keras.Sequential):
        assert isinstance(pruned.output, dict) == isinstance(model.output, dict)


@pytest.mark.parametrize("name", ["nested", "detector_ops_tail", "residual_se_dense"])
def test_pruned_model_saves_and_loads_in_safe_mode(name: str, tmp_path: Path) -> None:
    model, _, _, pruned = cut_once(name)
    pruned.save(tmp_path / "pruned.keras")
    loaded = keras.saving.load_model(tmp_path / "pruned.keras")
    inputs = prune_graphs.samples(model)
    expected, found = predict(pruned, inputs), predict(loaded, inputs)
    for key in expected:
        np.testing.assert_array_equal(expected[key], found[key])


def test_pruning_a_pruned_model_again_works() -> None:
    _, _, first, pruned = cut("residual_se_conv", 0.7)
    graph = analyze(pruned)
    second = select(graph, IMPORTANCE["l2"](pruned, graph, {}, 0), Macs(), 0.5)
    smaller = prune(pruned, graph, second)
    assert verify_exact(pruned, graph, second, smaller, prune_graphs.samples(pruned)) <= EXACT
    assert second.macs_after < first.macs_after


def test_verify_exact_sees_one_wrong_weight() -> None:
    model, graph, selection, pruned = cut("chain")
    kernel = pruned.get_layer("head").kernel
    wrong = weight_array(kernel)
    wrong[0, 0, 0, 0] += 1e-2
    kernel.assign(wrong)
    assert verify_exact(model, graph, selection, pruned, prune_graphs.samples(model)) > EXACT


def test_verify_exact_sees_nan() -> None:
    model, graph, selection, pruned = cut("chain")
    bias = pruned.get_layer("head").bias
    bias.assign(np.full(bias.shape, np.nan))
    assert verify_exact(model, graph, selection, pruned, prune_graphs.samples(model)) == float("inf")
