"""Weights become zero where the outputs miss them least, as many as were asked for, and stay zero in training."""

from __future__ import annotations

import keras
import numpy as np
import prune_graphs
import pytest
from keras import layers as L

from edgekit.prune.keras.functional import operations, weight_array
from edgekit.prune.keras.signature import predict
from edgekit.prune.thinning.sparsity import masks

pytestmark = pytest.mark.slow


def _network() -> keras.Model:
    i = keras.Input((8, 8, 8), name="x")
    y = L.Conv2D(16, 3, activation="relu", name="conv")(i)
    shared = L.Conv2D(16, 1, name="twice")
    y = shared(shared(y))
    y = L.Conv2D(32, 3, groups=2, name="grouped")(y)
    y = keras.Sequential([keras.Input((4, 4, 32)), L.Conv2D(32, 1, name="within")], name="inner")(y)
    y = L.GlobalAveragePooling2D()(y)
    return keras.Model(i, L.Dense(4, name="few")(L.Dense(64, name="dense")(y)))


def _zeros(model: keras.Model) -> dict[str, float]:
    kernels = {key: layer.kernel for key, layer in operations(model).items() if hasattr(layer, "kernel")}
    return {key: float(np.mean(weight_array(kernel) == 0)) for key, kernel in kernels.items()}


def test_each_layer_loses_its_share_but_small_ones_nothing() -> None:
    model = _network()
    chosen = masks(model, prune_graphs.samples(model), 0.75)
    assert set(_zeros(model).values()) == {0.0}  # choosing changes nothing
    chosen.apply()
    assert _zeros(model) == {
        "conv": 0.75, "twice": 0.0, "grouped": 0.75, "inner/within": 0.75, "few": 0.0, "dense": 0.75
    }  # fmt: skip
    assert chosen.facts()["zeros"] == 0.75 * chosen.facts()["of"]


def test_two_of_four_neighbouring_inputs_stay() -> None:
    i = keras.Input((6, 6, 10), name="x")
    y = L.Conv2D(32, 3, name="ten_inputs")(i)
    model = keras.Model(i, L.Conv2D(24, 3, name="wide")(y))
    chosen = masks(model, prune_graphs.samples(model), "2:4")
    assert list(chosen.kept) == ["wide"]
    groups = chosen.kept["wide"].reshape(3, 3, 8, 4, 24)
    assert set(groups.sum(axis=3).ravel()) == {2.0}


def test_a_small_weight_on_a_loud_input_outlives_a_large_one_on_a_quiet_input() -> None:
    i = keras.Input((64,), name="x")
    model = keras.Model(i, L.Dense(16, name="dense")(i))
    loud = np.arange(64) < 32
    kernel = np.where(loud[:, None], 0.1, 1.0) * np.ones((64, 16))
    model.get_layer("dense").kernel.assign(kernel.astype(np.float32))
    samples = {"x": (np.random.default_rng(0).normal(size=(64, 64)) * np.where(loud, 100.0, 1.0)).astype(np.float32)}
    before = predict(model, samples)["dense"]
    chosen = masks(model, samples, 0.5)
    np.testing.assert_array_equal(chosen.kept["dense"], np.repeat(loud[:, None], 16, axis=1).astype(np.float32))
    chosen.apply()
    lost = np.std(predict(model, samples)["dense"] - before) / np.std(before)
    assert lost < 0.2  # by size alone, all of the loud half would have gone
