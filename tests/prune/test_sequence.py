"""Sequence models: pruned equals the original without the removed units, and the named units really go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import sequence_graphs

from edgekit import keras_io
from edgekit.prune.keras.functional import weight_array
from edgekit.prune.keras.graph import ChannelGraph, analyze
from edgekit.prune.keras.importance import IMPORTANCE, taylor
from edgekit.prune.keras.masked_norm import normalize_over
from edgekit.prune.keras.signature import as_tensors, call, predict
from edgekit.prune.keras.surgery import prune, verify_exact
from edgekit.prune.latency.ops import ops_of
from edgekit.prune.repair.least_squares import RefitSettings, refit
from edgekit.prune.selection.cost import Macs
from edgekit.prune.selection.greedy import Selection, select

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("eagerly"),
    # Keras 3.15 saves variables through an __array__ without the copy keyword of numpy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

TEXT_ENCODER = Path(__file__).parents[2] / "sample_models" / "text_encoder"
EXACT = 1e-5  # float32 sums in another order give about 1e-7; every mistake so far gave more than 1e-3

# Everything cut to its floor: half of the width, up to a multiple of 8; heads one by one.
CUTS: dict[str, list[tuple[tuple[str, ...], int, int]]] = {
    "pre_norm_text": [
        (("embedding",), 32, 16),
        (("positions", "attention0", "mlp0_down", "attention1", "mlp1_down"), 32, 16),
        (("attention0",), 4, 2),
        (("mlp0_up",), 64, 32),
        (("attention1",), 4, 2),
        (("mlp1_up",), 64, 32),
    ],
    "post_norm_rms_masked": [
        (("embedding", "positions", "attention0", "mlp0_down", "attention1", "mlp1_down"), 32, 16),
        (("attention0",), 2, 1),
        (("mlp0_up",), 48, 24),
        (("attention1",), 2, 1),
        (("mlp1_up",), 48, 24),
    ],
    "cross_attention": [
        (("embedding",), 24, 16),
        (("values",), 32, 16),
        (("keys",), 40, 24),
        (("attention",), 6, 3),
        (("attention",), 48, 24),
        (("hidden",), 32, 16),
    ],
    "grouped_queries": [(("embedding", "attention"), 32, 16), (("attention",), 4, 2)],
    "attention_on_images": [
        (("patches", "attention", "mlp_down"), 32, 16),
        (("attention",), 4, 2),
        (("mlp_up",), 64, 32),
    ],
    "lstm_text": [
        (("embedding",), 24, 16),
        (("first",), 32, 16),
        (("second",), 24, 16),
        (("hidden",), 32, 16),
    ],
    "gru_audio": [(("conv",), 32, 16), (("after",), 24, 16), (("before",), 32, 16)],
    "bidirectional": [(("embedding",), 24, 16), (("concat",), 32, 16), (("sum",), 24, 16), (("own",), 16, 8)],
    "encoder_decoder": [(("embedding",), 16, 8), (("encoder", "decoder"), 32, 16), (("both",), 16, 8)],
    "recurrent_cells": [(("simple",), 32, 16), (("cell",), 24, 16), (("stack",), 32, 16), (("stack",), 16, 8)],
    "video": [(("conv",), 16, 8), (("dense",), 24, 16), (("gru",), 16, 8)],
    "video_models": [
        (("bodies/first", "bodies/second"), 16, 8),
        (("bodies/third",), 24, 16),
        (("heads/dense",), 32, 16),
        (("gru",), 16, 8),
    ],
    "conv_lstm": [(("first",), 16, 8), (("second",), 24, 16)],
    "einsum_layers": [(("ellipsis",), 32, 16), (("plain",), 24, 16), (("wide",), 40, 24), (("split",), 16, 8)],
    "attention_by_ops": [(("value",), 32, 16), (("einsum_value",), 24, 16), (("after",), 40, 24)],
    "attention_layer": [(("embedding",), 32, 16), (("value",), 24, 16), (("after",), 32, 16)],
    "masked_signal": [(("lstm",), 32, 16), (("gru",), 16, 8)],
    "shared_block": [
        (("embedding", "block/attention", "block/mlp_down"), 32, 16),
        (("block/attention",), 4, 2),
        (("block/mlp_up",), 64, 32),
    ],
    "shown_scores": [(("embedding",), 32, 16), (("attention",), 32, 16), (("after",), 48, 24)],
    "vision_transformer": [
        (("patches",), 48, 24),
        (("positions", "attention0", "mlp0_down", "attention1", "mlp1_down"), 48, 24),
        (("attention0",), 6, 3),
        (("mlp0_up",), 192, 96),
        (("attention1",), 6, 3),
        (("mlp1_up",), 192, 96),
    ],
    "convnext": [
        (("stem", "mlp00_down", "mlp01_down"), 24, 16),
        (("mlp00_up",), 96, 48),
        (("mlp01_up",), 96, 48),
        (("down", "mlp10_down", "mlp11_down"), 48, 24),
        (("mlp10_up",), 192, 96),
        (("mlp11_up",), 192, 96),
    ],
}


def cut(name: str) -> tuple[keras.Model, ChannelGraph, Selection, keras.Model]:
    model = sequence_graphs.build(name)
    graph = analyze(model)
    order = IMPORTANCE["random"](model, graph, {}, 0)
    selection = select(graph, order, Macs(), 0.0, round_to=8, min_channels=8, max_layer_cut=0.5)
    return model, graph, selection, prune(model, graph, selection)


@pytest.mark.parametrize("name", ["pre_norm_text", "vision_transformer", "convnext"])
def test_transformers_and_convnext_lose_half_of_their_macs_and_stay_exact(name: str) -> None:
    model = sequence_graphs.build(name)
    graph = analyze(model)
    selection = select(graph, IMPORTANCE["l2"](model, graph, {}, 0), Macs(), 0.5, round_to=8)
    assert 0.4 < selection.macs_after / selection.macs_before <= 0.5
    pruned = prune(model, graph, selection)
    assert verify_exact(model, graph, selection, pruned, sequence_graphs.samples(model)) <= EXACT


def test_the_text_sample_loses_heads_and_feed_forward_units() -> None:
    model = keras_io.load(TEXT_ENCODER / "model.keras")
    with np.load(TEXT_ENCODER / "data" / "calibration.npz") as data:
        inputs = {model.inputs[0].name: data["x"][:32]}
    graph = analyze(model)
    assert reasons(graph) == {"probabilities": "goes through the activation 'softmax', which may mix channels"}
    order = taylor(model, graph, inputs, 0, batches=2)
    selection = select(graph, order, Macs(), 0.5, round_to=8)
    narrowed = {width.layers[0] for width in selection.widths if width.after < width.before}
    assert {"block1_attention", "block1_expand", "block2_expand"} <= narrowed
    assert selection.macs_after <= 0.5 * selection.macs_before
    assert verify_exact(model, graph, selection, prune(model, graph, selection), inputs) <= EXACT


@pytest.mark.parametrize("name", ["pre_norm_text", "video_models", "lstm_text"])
def test_the_closed_form_repair_does_no_harm_to_layers_that_it_cannot_solve(name: str) -> None:
    model, graph, selection, pruned = cut(name)
    inputs = sequence_graphs.samples(model, 64)
    result = refit(pruned, model, graph, selection, inputs, RefitSettings(samples=64))
    assert result.distances[result.kept] == min(result.distances.values()) <= result.distances["unchanged"]
    assert all(np.isfinite(array).all() for array in predict(pruned, inputs).values())


def reasons(graph: ChannelGraph) -> dict[str, str]:
    return {frozen.layer: frozen.reason for frozen in graph.frozen}


@pytest.mark.parametrize("name", sequence_graphs.GRAPHS)
def test_pruned_equals_the_original_without_the_removed_units(name: str) -> None:
    model, graph, selection, pruned = cut(name)
    inputs = sequence_graphs.samples(model)
    before = [weight_array(weight) for weight in model.weights]

    assert verify_exact(model, graph, selection, pruned, inputs) <= EXACT
    assert [(width.layers, width.before, width.after) for width in selection.widths] == CUTS[name]
    assert graph.params() == model.count_params()
    assert pruned.count_params() == selection.params_after
    assert analyze(pruned).macs() == selection.macs_after < selection.macs_before
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight_array(weight))
    # Without this, exactness could be the equality of two constants.
    full, small = call(model, as_tensors(inputs)), call(pruned, as_tensors(inputs))
    assert max(float(np.abs(full[key] - small[key]).max()) for key in full) > 1e-2


@pytest.mark.parametrize(
    ("name", "layer", "reason"),
    [
        ("attention_by_ops", "query", "feeds 'matmul': channels do not lie along the last axis"),
        ("attention_by_ops", "key", "feeds 'matmul': channels do not lie along the last axis"),
        ("attention_layer", "query", "feeds 'dot': scores are sums over channels"),
        ("shown_scores", "attention/heads", "shows in the attention scores that 'attention' returns"),
    ],
)
def test_what_stays_says_why(name: str, layer: str, reason: str) -> None:
    assert reasons(analyze(sequence_graphs.build(name)))[layer] == reason


class Cell(keras.layers.GRUCell):
    """A user's cell; its state may do anything."""


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (lambda: keras.layers.RNN(Cell(16), name="odd"), "its cell has no pruning rule"),
        (lambda: keras.layers.LSTM(16, stateful=True, name="odd"), "it keeps its state from one call to the next"),
        (lambda: keras.layers.TimeDistributed(keras.layers.Softmax(), name="odd"), "Softmax works across channels"),
        (lambda: keras.layers.LayerNormalization(axis=[1, 2], name="odd"), "normalizes over positions and channels"),
    ],
)
def test_recurrent_and_normalizing_layers_that_cannot_be_followed_are_frozen(layer: Any, reason: str) -> None:
    image = keras.Input((6, 4), batch_size=2)
    x = keras.layers.Dense(16, name="before")(image)
    found = reasons(analyze(keras.Model(image, keras.layers.Dense(2, name="out")(layer()(x)))))
    assert found["before"].startswith(f"feeds 'odd': {reason}")


def test_a_unit_outside_activations_that_mix_units_stays() -> None:
    signal = keras.Input((6, 4))
    x = keras.layers.GRU(16, activation="softmax", name="mixed")(signal)
    graph = analyze(keras.Model(signal, keras.layers.Dense(2, name="out")(x)))
    assert reasons(graph)["mixed"] == "goes through the activation 'softmax'"


def test_macs_of_attention_count_projections_and_products() -> None:
    query, memory = keras.Input((10, 24)), keras.Input((7, 40))
    attention = keras.layers.MultiHeadAttention(3, 8, value_dim=5, output_shape=16, name="attention")
    graph = analyze(keras.Model([query, memory], attention(query, memory)))
    projections = 10 * 24 * 3 * 8 + 7 * 40 * 3 * (8 + 5) + 10 * 3 * 5 * 16
    assert graph.macs_per_layer() == {"attention": projections + 10 * 7 * 3 * (8 + 5)}


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("SimpleRNN", 1)])
def test_macs_of_recurrent_layers_count_every_gate_and_step(kind: str, gates: int) -> None:
    signal = keras.Input((10, 24))
    graph = analyze(keras.Model(signal, getattr(keras.layers, kind)(32, name="layer")(signal)))
    assert graph.macs() == 10 * gates * (24 * 32 + 32 * 32)


def test_macs_of_einsum_layers_count_every_letter_once() -> None:
    macs = analyze(sequence_graphs.build("einsum_layers")).macs_per_layer()
    assert macs == {
        "ellipsis": 6 * 5 * 32,
        "plain": 6 * 32 * 24,
        "positions": 6 * 8 * 24,
        "scale": 8 * 24,
        "wide": 8 * 24 * 40,
        "split": 8 * 40 * 3 * 16,
        "out": 8 * 3 * 16 * 4,
    }


def test_macs_of_a_model_on_every_frame_count_every_frame() -> None:
    macs = analyze(sequence_graphs.build("video_models")).macs_per_layer()
    assert macs["bodies/first"] == 3 * 8 * 8 * 9 * 2 * 16
    assert macs["heads/dense"] == 3 * 3 * 3 * 24 * 32


def test_layers_of_a_model_on_every_frame_are_priced_by_all_frames_not_by_the_shape_of_one() -> None:
    graph = analyze(sequence_graphs.build("video_models"))
    ops = {op.layer: op for op in ops_of(graph)}
    assert ops["bodies/first"].shape is None
    assert [term.factor for term in ops["bodies/first"].terms] == [3 * 8 * 8 * 9]
    assert ops["out"].shape is not None


def test_heads_are_cut_one_by_one_whatever_the_rounding() -> None:
    graph = analyze(sequence_graphs.build("cross_attention"))
    importance = np.ones(graph.unit_count)
    for keep, heads in [(0.95, 5), (0.0, 3)]:
        widths = select(graph, importance, Macs(), keep, round_to=16, min_channels=16).widths
        least = min(width.after for width in widths if width.before == 6)
        assert least == heads if keep == 0.0 else least >= heads - 1
        assert all(width.after % 16 == 0 or width.after == width.before for width in widths if width.before != 6)


def test_taylor_gives_nothing_to_a_head_whose_projection_is_zero() -> None:
    model = sequence_graphs.build("pre_norm_text")
    kernel = model.get_layer("attention0").output_dense.kernel
    silent = weight_array(kernel)
    silent[2] = 0.0
    kernel.assign(silent)
    graph = analyze(model)
    found = taylor(model, graph, sequence_graphs.samples(model), 0, batches=2, batch=4)
    heads = next(block for block in graph.blocks if block.layers == ("attention0",))
    assert [found[unit] == 0.0 for unit in heads.units] == [False, False, True, False]


def test_taylor_gives_nothing_to_a_recurrent_unit_that_neither_time_nor_the_next_layer_reads() -> None:
    model = sequence_graphs.build("gru_audio")
    recurrent, following = model.get_layer("after").cell.recurrent_kernel, model.get_layer("before").cell.kernel
    graph = analyze(model)
    units = next(block for block in graph.blocks if block.layers == ("after",)).units
    for weight, silenced in [(following, (3, 7)), (recurrent, (7,))]:
        values = weight_array(weight)
        values[list(silenced)] = 0.0
        weight.assign(values)
    found = taylor(model, graph, sequence_graphs.samples(model), 0, batches=2, batch=4)
    assert [index for index, unit in enumerate(units) if found[unit] == 0.0] == [7]


@pytest.mark.parametrize("kind", ["LayerNormalization", "RMSNormalization"])
def test_a_norm_over_the_living_channels_is_the_norm_of_a_narrower_layer(kind: str) -> None:
    living = np.arange(12) % 3 != 1
    random = np.random.default_rng(0)
    values = random.normal(2.0, 3.0, (5, 12)).astype(np.float32)
    wide, narrow = getattr(keras.layers, kind)(), getattr(keras.layers, kind)()
    wide(values)
    narrow(values[:, living])
    for one, other in zip(wide.weights, narrow.weights, strict=True):
        drawn = random.normal(1.0, 0.5, 12)
        one.assign(drawn)
        other.assign(drawn[living])
    assert np.abs(np.asarray(wide(values))[:, living] - narrow(values[:, living])).max() > 1e-2
    normalize_over(wide, living)
    np.testing.assert_allclose(np.asarray(wide(values))[:, living], narrow(values[:, living]), atol=1e-5)
