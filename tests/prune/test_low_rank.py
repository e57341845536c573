"""Layers become pairs where the outputs allow it, exactly where they have that rank, and only where it is faster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers as L

from edgekit import keras_io
from edgekit.prune.keras.functional import as_functional, operations, weight_array
from edgekit.prune.keras.signature import Arrays, input_names, predict
from edgekit.prune.thinning.low_rank import LowRankSettings, factorise, output_error
from edgekit.prune.thinning.pair_timing import PairTimer

pytestmark = [
    pytest.mark.slow,
    # Keras 3.15 saves variables through an __array__ without the copy keyword of numpy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

EXACT = 1e-5  # relative: the same sums of float32 in another order
WHOLE = LowRankSettings(energy=1 - 1e-6)  # what float32 sums leave of the energy in 42 empty dimensions


def faster(one: keras.Model, other: keras.Model) -> tuple[float, float]:
    return 1.0, 0.5


def slower(one: keras.Model, other: keras.Model) -> tuple[float, float]:
    return 1.0, 0.95


def _low_rank_kernels(model: keras.Model, rank: int) -> None:
    """Give every wide layer outputs that fill ``rank`` dimensions only, around a mean that is far from 0."""
    generator = np.random.default_rng(7)
    for layer in operations(model).values():
        if not isinstance(layer, L.Dense | L.Conv1D | L.Conv2D | L.Conv3D):
            continue
        *taps, width = layer.kernel.shape
        first, second = generator.normal(size=(*taps, rank)), generator.normal(size=(rank, width))
        layer.kernel.assign((first @ second / np.sqrt(rank * np.prod(taps))).astype(np.float32))
        if layer.use_bias:
            layer.bias.assign(generator.normal(3.0, 1.0, size=(width,)).astype(np.float32))


def _samples(model: keras.Model, count: int = 12) -> Arrays:
    generator = np.random.default_rng(3)
    shapes = zip(input_names(model), model.inputs, strict=True)
    return {name: generator.random((count, *tensor.shape[1:]), np.float32) for name, tensor in shapes}


def _dense() -> keras.Model:
    i = keras.Input((40,), name="x")
    return keras.Model(i, L.Dense(48, activation="relu", name="wide")(i))


def _dense_on_rows() -> keras.Model:
    i = keras.Input((5, 40), name="x")
    return keras.Model(i, L.Dense(48, use_bias=False, name="wide")(i))


def _conv_strided_into_norm() -> keras.Model:
    i = keras.Input((9, 9, 6), name="x")
    y = L.Conv2D(32, 3, strides=2, padding="same", use_bias=False, name="wide")(i)
    return keras.Model(i, L.ReLU()(L.BatchNormalization(name="norm")(y)))


def _conv_dilated() -> keras.Model:
    i = keras.Input((12, 12, 8), name="x")
    return keras.Model(i, L.Conv2D(32, (3, 1), dilation_rate=(2, 1), activation="tanh", name="wide")(i))


def _pointwise() -> keras.Model:
    i = keras.Input((6, 6, 40), name="x")
    return keras.Model(i, L.Conv2D(48, 1, name="wide")(i))


def _causal() -> keras.Model:
    i = keras.Input((20, 8), name="x")
    return keras.Model(i, L.Conv1D(32, 3, padding="causal", dilation_rate=2, name="wide")(i))


def _volume() -> keras.Model:
    i = keras.Input((4, 5, 6, 3), name="x")
    return keras.Model(i, L.Conv3D(32, 3, padding="same", name="wide")(i))


def _two_outputs_by_name() -> keras.Model:
    i = keras.Input((8, 8, 3), name="x")
    y = L.Conv2D(32, 3, name="wide")(i)
    z = L.Conv2D(32, 3, activation="relu", name="after")(y)
    return keras.Model(i, {"map": z, "label": L.Dense(4, name="label")(L.GlobalAveragePooling2D()(y))})


MODELS = [
    _dense, _dense_on_rows, _conv_strided_into_norm, _conv_dilated, _pointwise, _causal, _volume, _two_outputs_by_name,
]  # fmt: skip


@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__.strip("_"))
def test_outputs_of_that_rank_are_kept_exactly_with_less_work(build: Callable[[], keras.Model]) -> None:
    model = build()
    _low_rank_kernels(model, 6)
    samples = _samples(model)
    before = [weight_array(weight) for weight in model.weights]
    expected = predict(model, samples)

    made, decisions = factorise(model, samples, WHOLE, faster)

    wide = next(one for one in decisions if one.layer == "wide")
    assert (wide.kept, wide.rank) == (True, 8)
    assert wide.macs_after < wide.macs_before
    assert made.get_layer("wide_low_rank").kernel.shape[-1] == 8
    found = predict(made, samples)
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], atol=EXACT * np.abs(expected[name]).max())
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight_array(weight))


def test_what_counts_is_what_the_samples_fill_not_the_kernel() -> None:
    """A kernel of full rank on inputs of rank 4: weights alone would say that nothing can go."""
    model = _dense()
    generator = np.random.default_rng(0)
    samples = {"x": (generator.random((64, 4)) @ generator.normal(size=(4, 40))).astype(np.float32)}
    assert np.linalg.matrix_rank(weight_array(model.get_layer("wide").kernel)) == 40
    made, (decision,) = factorise(model, samples, WHOLE, faster)
    assert (decision.kept, decision.rank) == (True, 8)
    assert output_error(model, made, samples) < EXACT


def test_the_error_is_what_the_energy_says() -> None:
    model = _pointwise()
    samples = _samples(model, 64)
    made, (decision,) = factorise(model, samples, LowRankSettings(energy=0.6, rank_step=4), faster)
    assert decision.kept
    assert 0.6 <= decision.energy < 1
    out = predict(model, samples)["wide"].reshape(-1, 48)
    lost = predict(made, samples)["wide"].reshape(-1, 48) - out
    share = np.sqrt((lost**2).sum() / ((out - out.mean(0)) ** 2).sum())
    assert share == pytest.approx(decision.error, rel=0.05)  # a quarter of the samples chose no rank


def test_a_pair_that_is_no_clear_gain_is_left_out() -> None:
    model = _dense()
    _low_rank_kernels(model, 6)
    made, (decision,) = factorise(model, _samples(model), WHOLE, slower)
    assert made is model
    assert not decision.kept
    assert (decision.ms_before, decision.ms_after) == (1.0, 0.95)
    assert "no clear gain" in decision.why


def test_full_rank_outputs_are_not_even_timed() -> None:
    def unexpected(one: keras.Model, other: keras.Model) -> tuple[float, float]:
        raise AssertionError("timed")

    i = keras.Input((64,), name="x")
    model = keras.Model(i, L.Dense(32, name="wide")(i))
    _, (decision,) = factorise(model, _samples(model, 64), WHOLE, unexpected)
    assert decision.why.endswith("needs 32 of 32 dimensions")


def test_layers_that_cannot_become_pairs_say_why() -> None:
    i = keras.Input((8, 8, 8), name="x")
    twice = L.Conv2D(8, 3, padding="same", name="twice")
    inner = keras.Sequential([keras.Input((8, 8, 8)), L.Conv2D(8, 1, name="within")], name="inner")
    y = L.Conv2D(8, 3, groups=2, padding="same", name="grouped")(inner(twice(twice(i))))
    model = keras.Model(i, y)
    made, decisions = factorise(model, _samples(model), WHOLE, faster)
    assert made is model
    assert {one.layer: one.why for one in decisions} == {
        "twice": "it is called more than once",
        "inner/within": "it is inside a nested model",
        "grouped": "it is a grouped convolution",
    }


def test_a_real_network_survives_saving_and_stays_near(tmp_path: Path) -> None:
    root = Path(__file__).parents[2] / "sample_models/fashion_classifier"
    model = as_functional(keras_io.load(root / "model.keras"))
    with np.load(root / "data/calibration.npz") as stored:
        pixels = stored["x"][:64].astype(np.float32) / 255
    (name,) = input_names(model)
    samples: Arrays = {name: pixels.reshape(-1, *model.inputs[0].shape[1:])}
    made, decisions = factorise(model, samples, LowRankSettings(energy=0.97), faster)
    kept = [one.layer for one in decisions if one.kept]
    assert len(kept) >= 2
    assert 0 < output_error(model, made, samples) < 0.2
    keras_io.save(made, tmp_path / "made.keras")
    again = as_functional(keras_io.load(tmp_path / "made.keras"))
    expected, found = predict(made, samples), predict(again, samples)
    np.testing.assert_array_equal(next(iter(expected.values())), next(iter(found.values())))
    assert {f"{layer}_low_rank" for layer in kept} <= set(operations(again))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_pairs_are_timed_in_the_runtime_that_will_run_them_and_once_for_each_shape(tmp_path: Path) -> None:
    i = keras.Input((6, 6, 40), name="x")
    y = L.Conv2D(40, 1, name="second")(L.Conv2D(40, 1, name="first")(i))
    model = keras.Model(i, y)
    _low_rank_kernels(model, 6)
    timer = PairTimer(tmp_path / "times.json", ("float32", "int8"))
    _, decisions = factorise(model, _samples(model), WHOLE, timer)
    ((before, after),) = timer.known.values()
    assert [(one.ms_before, one.ms_after) for one in decisions] == [(before, after)] * 2
    assert 0 < min(before, after) < 1000
    assert PairTimer(tmp_path / "times.json", ()).known == timer.known
