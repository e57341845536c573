from __future__ import annotations

import math

import keras
import numpy as np
import prune_graphs
import pytest

from edgekit.errors import StageError
from edgekit.prune.keras.functional import weight_array
from edgekit.prune.keras.graph import analyze
from edgekit.prune.keras.importance import IMPORTANCE, bn, l2, measured, taylor
from edgekit.prune.keras.signature import as_tensors, predict
from edgekit.prune.recovery.distillation import Distillation

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("method", IMPORTANCE)
@pytest.mark.parametrize("name", ["detector_ops_tail", "nested", "residual_se_dense"])
def test_every_method_ranks_every_unit(method: str, name: str) -> None:
    model = prune_graphs.build(name)
    graph = analyze(model)
    found = IMPORTANCE[method](model, graph, prune_graphs.samples(model), 0)
    assert found.shape == (graph.unit_count,)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert len(np.unique(found)) > graph.unit_count // 2


def test_taylor_of_a_linear_model_is_the_output_change() -> None:
    """Without activations the first order is exact, so only the random projections are noise."""
    keras.utils.set_random_seed(0)
    image = keras.Input((20,), name="x")
    hidden = keras.layers.Dense(16, name="hidden")(image)
    model = keras.Model(image, keras.layers.Dense(6, name="out")(hidden))
    graph = analyze(model)
    inputs = {"x": np.random.default_rng(0).normal(size=(64, 20)).astype(np.float32)}
    estimated = taylor(model, graph, inputs, seed=0, batches=200, batch=16)

    kernel = weight_array(model.get_layer("out").kernel)
    features = inputs["x"] @ weight_array(model.get_layer("hidden").kernel)
    actual = np.mean(features**2, axis=0) * np.sum(kernel**2, axis=1)
    # 200 draws of a squared Gaussian have a relative error of sqrt(2 / 200) = 0.1: the ranks agree closely.
    assert np.corrcoef(np.log(estimated), np.log(actual))[0, 1] > 0.98


def test_taylor_gives_nothing_to_a_unit_nobody_reads() -> None:
    model = prune_graphs.build("chain")
    kernel = model.get_layer("two").kernel
    silent = weight_array(kernel)
    silent[:, :, 7, :] = 0.0
    kernel.assign(silent)
    graph = analyze(model)
    found = taylor(model, graph, prune_graphs.samples(model), 0, batches=2, batch=2)
    assert found[graph.blocks[0].units[7]] == 0.0
    assert np.count_nonzero(found == 0.0) == 1


def test_taylor_depends_on_the_seed_alone() -> None:
    model = prune_graphs.build("chain")
    graph, inputs = analyze(model), prune_graphs.samples(model, 8)
    first = taylor(model, graph, inputs, 5, batches=2, batch=4)
    np.testing.assert_array_equal(first, taylor(model, graph, inputs, 5, batches=2, batch=4))
    assert not np.array_equal(first, taylor(model, graph, inputs, 6, batches=2, batch=4))


def test_measured_scores_sum_to_what_a_part_of_a_block_costs_at_the_outputs() -> None:
    model = prune_graphs.build("chain")
    graph, inputs = analyze(model), prune_graphs.samples(model, 32)
    before = predict(model, inputs)
    found = measured(model, graph, inputs, 0)
    whole = [weight_array(weight) for weight in model.weights]
    for block, reader in zip(graph.blocks, ("two", "head"), strict=True):
        order = sorted(block.units, key=lambda unit: (float(found[unit]), unit))
        for share in (0.25, 0.5, 0.75):
            gone = order[: math.ceil(share * len(order))]
            kernel = model.get_layer(reader).kernel
            blind = weight_array(kernel)
            blind[:, :, [block.units.index(unit) for unit in gone], :] = 0.0
            kernel.assign(blind)
            after, expected = as_tensors(predict(model, inputs)), as_tensors(before)
            cost = sum(float(distance(after, expected)) ** 2 for distance in Distillation.fit(before).distances)
            assert found[gone].sum() >= cost * 0.98  # more where later units would seem to cost less than earlier ones
            assert share > 0.25 or found[gone].sum() == pytest.approx(cost, rel=0.02)
            for weight, array in zip(model.weights, whole, strict=True):
                weight.assign(array)


def test_l2_and_bn_follow_the_weights() -> None:
    model = prune_graphs.build("chain")
    graph = analyze(model)
    one = list(graph.blocks[0].units)
    norms = np.sqrt(np.sum(weight_array(model.get_layer("one").kernel) ** 2, axis=(0, 1, 2)))
    np.testing.assert_allclose(l2(model, graph, {}, 0)[one], norms, rtol=1e-5)  # float32 against float64 sums
    np.testing.assert_array_equal(bn(model, graph, {}, 0)[one], np.abs(weight_array(model.get_layer("one_bn").gamma)))


def test_bn_refuses_a_model_without_batch_norm() -> None:
    model = prune_graphs.build("sequential")
    with pytest.raises(StageError, match="needs batch normalization"):
        bn(model, analyze(model), {}, 0)


def test_constant_outputs_cannot_be_ranked() -> None:
    model = prune_graphs.build("chain")
    model.get_layer("head").kernel.assign(np.zeros((1, 1, 32, 5)))
    inputs = prune_graphs.samples(model)
    assert np.ptp(predict(model, inputs)["head"], axis=(0, 1, 2)).max() == 0.0
    with pytest.raises(StageError, match="do not change"):
        taylor(model, analyze(model), inputs, 0)
