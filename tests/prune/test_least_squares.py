"""The closed-form repair: nearer to the original on samples it never saw, or nothing at all."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import prune_graphs
import pytest

from edgekit.prune.keras.functional import weight_array
from edgekit.prune.keras.graph import ChannelGraph, analyze
from edgekit.prune.keras.importance import IMPORTANCE
from edgekit.prune.keras.signature import as_tensors, predict
from edgekit.prune.keras.surgery import prune
from edgekit.prune.recovery.distillation import Distillation
from edgekit.prune.repair.least_squares import RefitResult, RefitSettings, refit
from edgekit.prune.repair.walk import sole_followers, walk
from edgekit.prune.selection.cost import Macs
from edgekit.prune.selection.greedy import Selection, select

pytestmark = pytest.mark.slow

SETTINGS = RefitSettings(samples=32)


def cut(name: str, keep_macs: float = 0.5) -> tuple[keras.Model, ChannelGraph, Selection, keras.Model]:
    original = prune_graphs.build(name)
    graph = analyze(original)
    selection = select(graph, IMPORTANCE["random"](original, graph, {}, 0), Macs(), keep_macs)
    return original, graph, selection, prune(original, graph, selection)


def distance(original: keras.Model, student: keras.Model, inputs: dict[str, Any]) -> float:
    taught = predict(original, inputs)
    return float(Distillation.fit(taught)(as_tensors(predict(student, inputs)), as_tensors(taught)))


def repaired(name: str) -> tuple[keras.Model, keras.Model, RefitResult]:
    original, graph, selection, pruned = cut(name)
    return original, pruned, refit(pruned, original, graph, selection, prune_graphs.samples(original, 32), SETTINGS)


@pytest.mark.parametrize(
    "name", ["residual_se_dense", "shared_head_two_levels", "grouped", "transformer", "two_inputs"]
)
def test_never_farther_than_before_on_its_held_apart_samples(name: str) -> None:
    """Shared, grouped and attention layers are left alone, those around them solved."""
    original, pruned, result = repaired(name)
    assert result.distances[result.kept] == min(result.distances.values())
    assert result.samples == 32
    assert all(fit.after <= fit.before for fit in result.layers)
    outputs = predict(pruned, prune_graphs.samples(original))
    assert all(np.isfinite(array).all() for array in outputs.values())


@pytest.mark.parametrize(
    "name", ["flatten_dense", "nested", "concat_add_two_outputs", "transposed_and_1d", "sequential"]
)
def test_nearer_on_samples_that_nobody_saw(name: str) -> None:
    original, graph, selection, pruned = cut(name)
    fresh = prune_graphs.samples(original, 32, seed=7)
    before = distance(original, pruned, fresh)
    result = refit(pruned, original, graph, selection, prune_graphs.samples(original, 32), SETTINGS)
    assert result.kept != "unchanged"
    assert distance(original, pruned, fresh) < 0.7 * before


def duplicated() -> keras.Model:
    """Every second channel repeats the one before it: half of them can go without any loss."""
    model = prune_graphs.build("chain")
    for layer in model.layers:
        if layer.name in ("one", "two", "one_bn", "two_bn"):
            for weight in layer.weights:
                array = weight_array(weight)
                array[..., 1::2] = array[..., ::2]
                weight.assign(array)
    return model


def test_what_the_rest_can_express_is_restored_exactly() -> None:
    original = duplicated()
    graph = analyze(original)
    order = np.tile([0.0, 1.0], graph.unit_count // 2)  # of each pair the first goes
    selection = select(graph, order, Macs(), 0.3, max_layer_cut=0.5)
    pruned = prune(original, graph, selection)
    inputs = prune_graphs.samples(original, 32)
    before = distance(original, pruned, inputs)
    result = refit(pruned, original, graph, selection, inputs, SETTINGS)
    assert before > 0.1
    assert result.distances["least squares"] < 1e-3 * before


def test_an_uncut_model_stays_as_it_is() -> None:
    original = prune_graphs.build("chain")
    graph = analyze(original)
    selection = select(graph, np.ones(graph.unit_count), Macs(), 1.0)
    pruned = prune(original, graph, selection)
    before = [weight_array(weight) for weight in pruned.weights]
    result = refit(pruned, original, graph, selection, prune_graphs.samples(original, 8), SETTINGS)
    assert result.kept == "unchanged"
    for old, weight in zip(before, pruned.weights, strict=True):
        np.testing.assert_array_equal(old, weight_array(weight))


def test_the_original_is_untouched_and_two_runs_agree_to_the_bit() -> None:
    original, graph, selection, _ = cut("residual_se_conv")
    before = [weight_array(weight) for weight in original.weights]
    states = []
    for _ in range(2):
        pruned = prune(original, graph, selection)
        refit(pruned, original, graph, selection, prune_graphs.samples(original, 24), SETTINGS)
        states.append([weight_array(weight) for weight in pruned.weights])
    for old, weight in zip(before, original.weights, strict=True):
        np.testing.assert_array_equal(old, weight_array(weight))
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(one, other)


def test_layers_that_are_not_solved_are_named() -> None:
    _, _, result = repaired("separable_multiplier_prelu")
    assert "sep0" in result.unsolved
    _, _, result = repaired("shared_in_series")
    assert result.unsolved == ("shared",)


def test_one_sample_is_too_few() -> None:
    original, graph, selection, pruned = cut("chain")
    with pytest.raises(ValueError, match="two samples"):
        refit(pruned, original, graph, selection, prune_graphs.samples(original, 1), SETTINGS)


@pytest.mark.parametrize("name", ["nested", "shared_in_series", "channel_slice", "transformer", "sequential"])
def test_a_walk_meets_every_layer_with_what_the_model_gives_it(name: str) -> None:
    model = prune_graphs.build(name)
    inputs = prune_graphs.samples(model, 5)
    seen: dict[str, int] = {}

    def visit(key: str, layers: Any, given: Any) -> None:
        seen[key] = sum(len(part) for part in given[0])

    most = walk([model, model], inputs, 2, visit)
    assert set(seen.values()) == {5}
    assert most >= 2 * sum(array.nbytes for array in inputs.values())
    last = model.outputs[0]._keras_history[0].name
    assert any(key.endswith(last) for key in seen) or name == "sequential"


def test_a_batch_norm_takes_a_constant_only_from_the_layer_it_alone_reads() -> None:
    model = prune_graphs.build("residual_se_conv")
    followers = sole_followers(model, keras.layers.BatchNormalization)
    assert followers == {"stem": "stem_bn", "inner": "inner_bn"}
    shared = prune_graphs.build("nested")
    assert sole_followers(shared, keras.layers.BatchNormalization)["backbone/a"] == "backbone/a_bn"
