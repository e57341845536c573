from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import prune_graphs
import pytest

from edgekit.errors import UnsupportedError
from edgekit.prune.keras.functional import copy_model, weight_array
from edgekit.prune.keras.graph import ChannelGraph, analyze
from edgekit.prune.keras.importance import l2
from edgekit.prune.keras.surgery import prune
from edgekit.prune.selection.cost import Macs
from edgekit.prune.selection.greedy import select

pytestmark = pytest.mark.slow


def widths(graph: ChannelGraph) -> dict[tuple[str, ...], int]:
    return {block.layers: len(block.units) for block in graph.blocks}


def reasons(graph: ChannelGraph) -> dict[str, str]:
    return {frozen.layer: frozen.reason for frozen in graph.frozen}


def test_a_chain_has_one_block_per_layer_and_its_output_is_frozen() -> None:
    graph = analyze(prune_graphs.build("chain"))
    assert widths(graph) == {("one",): 32, ("two",): 32}
    assert reasons(graph) == {"head": "is the model output 'head'"}


def test_macs_are_those_of_the_convolutions() -> None:
    graph = analyze(prune_graphs.build("chain"))
    positions = prune_graphs.SIZE**2
    assert graph.macs_per_layer() == {
        "one": positions * 9 * 3 * 32,
        "two": positions * 9 * 32 * 32,
        "head": positions * 32 * 5,
    }


def test_macs_of_depthwise_and_separable_layers() -> None:
    macs = analyze(prune_graphs.build("separable_multiplier_prelu")).macs_per_layer()
    positions = prune_graphs.SIZE**2
    assert macs["sep0"] == positions * (9 * 24 * 2 + 24 * 2 * 32)
    assert macs["dw"] == positions * 9 * 64


@pytest.mark.parametrize("name", prune_graphs.GRAPHS)
def test_params_agree_with_keras(name: str) -> None:
    model = prune_graphs.build(name)
    assert analyze(model).params() == model.count_params()


def test_a_residual_sum_and_its_gate_are_one_decision() -> None:
    assert widths(analyze(prune_graphs.build("residual_se_conv"))) == {
        ("stem", "outer", "excite"): 32,
        ("inner",): 48,
        ("squeeze",): 16,
    }


def test_a_shared_layer_couples_its_calls() -> None:
    assert widths(analyze(prune_graphs.build("shared_in_series"))) == {("stem", "shared"): 32}
    assert widths(analyze(prune_graphs.build("shared_head_two_levels"))) == {
        ("level1", "level2"): 32,
        ("tower",): 24,
    }


def test_nested_models_are_followed_not_frozen() -> None:
    assert widths(analyze(prune_graphs.build("nested"))) == {
        ("stem", "backbone/b"): 32,
        ("backbone/a",): 48,
        ("block/p",): 24,
        ("block/q",): 32,
    }


@pytest.mark.parametrize(
    ("name", "layer", "reason"),
    [
        ("broadcast_attention", "mask", "is broadcast over the channels of 'multiply'"),
        ("transformer", "probabilities", "goes through the activation 'softmax', which may mix channels"),
        ("flatten_dense", "classes", "goes through the activation 'softmax', which may mix channels"),
        ("ssd_head", "box0", "is the model output 'concatenate'"),
    ],
)
def test_what_cannot_be_pruned_is_named_with_its_reason(name: str, layer: str, reason: str) -> None:
    assert reasons(analyze(prune_graphs.build(name)))[layer] == reason


@pytest.mark.parametrize(
    ("mixes", "reason"),
    [
        (lambda x: keras.ops.roll(x, 1, axis=-1), "Roll works across channels"),
        (lambda x: keras.ops.cumsum(x, axis=-1), "Cumsum works across channels"),
        (lambda x: keras.layers.UnitNormalization(name="op")(x), "UnitNormalization works across channels"),
        (lambda x: keras.layers.GroupNormalization(1, name="op")(x), "normalizes across all channels"),
        (lambda x: x[..., ::2], "takes every n-th channel"),
        (lambda x: x[..., 3:4] + x[..., 5], "takes single channels"),
        (lambda x: keras.ops.pad(x, [[0, 0], [0, 0], [0, 0], [1, 1]], mode="reflect"), "other than one constant"),
        (lambda x: keras.ops.reshape(x, (-1, 32, 31)), "spreads channels over positions"),
        (lambda x: keras.layers.Dense(5)(keras.layers.Permute((1, 3, 2))(x)), "do not lie along the last axis"),
        (lambda x: keras.ops.repeat(x, list(range(1, 33)), axis=-1), "repeats unevenly"),
    ],
)
def test_what_works_across_channels_is_frozen_with_its_reason(mixes: Callable[[Any], Any], reason: str) -> None:
    image = keras.Input((31, 31, 3))
    x = mixes(keras.layers.Conv2D(32, 3, padding="same", name="near")(image))
    graph = analyze(keras.Model(image, keras.layers.Dense(2, name="out")(keras.layers.Dense(16, name="after")(x))))
    assert reason in reasons(graph)["near"]
    assert widths(graph) == {("after",): 16}


def test_an_unknown_operation_freezes_its_neighbours_only() -> None:
    image = prune_graphs.image()
    x = prune_graphs.conv(prune_graphs.conv(image, 32, "far"), 32, "near")
    x = keras.ops.nan_to_num(x)
    model = keras.Model(image, keras.layers.Conv2D(3, 1, name="head")(prune_graphs.conv(x, 32, "after")))
    graph = analyze(model)
    assert widths(graph) == {("far",): 32, ("after",): 32}
    assert reasons(graph)["near"] == "feeds 'nan_to_num': NanToNum has no pruning rule"


class Dense(keras.layers.Dense):
    """A user's layer that only shares its name with a known one."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return super().call(inputs[..., ::-1])


def test_a_user_class_is_not_taken_for_the_keras_layer_of_that_name() -> None:
    image = keras.Input((8,))
    x = keras.layers.Dense(32, name="before")(image)
    graph = analyze(keras.Model(image, keras.layers.Dense(2, name="out")(Dense(32, name="mine")(x))))
    assert graph.unit_count == 0
    assert "has no pruning rule" in reasons(graph)["before"]


def test_channels_first_is_frozen() -> None:
    image = keras.Input((3, 8, 8))
    x = keras.layers.Conv2D(16, 1, data_format="channels_first", name="first")(image)
    graph = analyze(keras.Model(image, keras.layers.Conv2D(4, 1, data_format="channels_first")(x)))
    assert graph.unit_count == 0


def test_a_subclassed_model_is_refused_by_name() -> None:
    class Custom(keras.Model):
        def call(self, inputs: Any) -> Any:
            return inputs

    with pytest.raises(UnsupportedError, match=r"'mine' is a Custom, not a functional graph"):
        analyze(Custom(name="mine"))


def test_a_lambda_is_refused() -> None:
    image = keras.Input((8,))
    x = keras.layers.Lambda(lambda t: t * 2)(keras.layers.Dense(32)(image))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Dense(32)(x)))
    graph = analyze(model)
    with pytest.raises(UnsupportedError, match="cannot be rebuilt"):
        prune(model, graph, select(graph, l2(model, graph, {}, 0), Macs(), 0.5))


@pytest.mark.parametrize("name", prune_graphs.GRAPHS)
def test_a_copy_is_equal_and_independent(name: str) -> None:
    model = prune_graphs.build(name)
    source = model if not isinstance(model, keras.Sequential) else keras.Model(model.inputs, model.outputs)
    copied = copy_model(source)
    for old, new in zip(source.weights, copied.weights, strict=True):
        np.testing.assert_array_equal(weight_array(old), weight_array(new))
        assert old is not new
    copied.weights[0].assign(np.ones(copied.weights[0].shape))
    assert not np.array_equal(weight_array(source.weights[0]), weight_array(copied.weights[0]))
