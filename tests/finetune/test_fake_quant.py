"""Rounding as int8 rounds, where int8 rounds, in the network as it is."""

from __future__ import annotations

from pathlib import Path

import finetune_networks as networks
import keras
import numpy as np
import pytest
import tensorflow as tf

from edgekit.convert.stage import float_artifact, float_model
from edgekit.convert.tflite_quantized import emit
from edgekit.errors import UnsupportedError
from edgekit.finetune.distance import Distance
from edgekit.finetune.fake_quant import kernels, rounded_activation, rounded_kernel, rounded_values
from edgekit.finetune.program import trace
from edgekit.finetune.training import RoundedNetwork, run_program
from edgekit.quantize.calibrate import ranges
from edgekit.quantize.decide import decide
from edgekit.runtimes import open_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # Keras with NumPy 2
]


def silent(done: float, text: str) -> None:
    """Take progress and do nothing."""


def test_activations_get_256_levels_with_zero_among_them() -> None:
    values = tf.constant(np.linspace(-1.0, 3.0, 4001, dtype=np.float32))
    rounded = rounded_activation(values, tf.constant(-0.7), tf.constant(2.0)).numpy()
    levels = np.unique(rounded)
    assert len(levels) == 256
    assert 0.0 in levels
    assert rounded.min() == pytest.approx(-0.7, abs=2.7 / 255)
    inside = (values.numpy() > -0.69) & (values.numpy() < 1.99)
    assert np.abs(rounded - values.numpy())[inside].max() <= 2.7 / 255 / 2 + 1e-6


def test_gradients_pass_but_for_what_is_clipped() -> None:
    values = tf.Variable([-1.0, 0.3, 1.5, 9.0])
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(rounded_activation(values, tf.constant(0.0), tf.constant(2.0)))
    assert tape.gradient(total, values).numpy().tolist() == [0.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize(("shape", "axes"), [((3, 3, 4, 5), (-1,)), ((3, 3, 4, 2), (-2, -1)), ((2, 2, 5, 3), (-2,))])
def test_kernels_have_127_steps_to_each_side_for_every_channel(shape: tuple[int, ...], axes: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    kernel = random.normal(size=shape).astype(np.float32)
    size = np.abs(kernel).max(axis=tuple(a for a in range(4) if a - 4 not in axes), keepdims=True)
    steps = rounded_kernel(tf.constant(kernel), axes).numpy() / size * 127
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    np.testing.assert_allclose(steps, np.round(kernel / size * 127), atol=1e-3)


def test_rounding_before_a_batch_norm_is_rounding_after_it_is_folded() -> None:
    random = np.random.default_rng(1)
    kernel = random.normal(size=(3, 3, 4, 6)).astype(np.float32)
    factors = random.normal(size=6).astype(np.float32)  # gamma / sqrt(variance + epsilon), of either sign
    before = rounded_kernel(tf.constant(kernel), (-1,)).numpy() * factors
    after = rounded_kernel(tf.constant(kernel * factors), (-1,)).numpy()
    np.testing.assert_allclose(before, after, atol=1e-6)


def test_a_program_computes_what_its_model_computes() -> None:
    model = networks.every_construct()
    given = networks.images(4, (8, 8, 3))
    made = run_program(trace(model), model, {"image": tf.constant(given)}, lambda number, tensor: tensor)
    expected = model(given, training=False)
    assert set(made) == {"scores", "sum"}
    for name, tensor in expected.items():
        np.testing.assert_array_equal(made[name].numpy(), tensor.numpy())


def test_rounded_is_what_int8_kernels_read_and_write() -> None:
    model = networks.every_construct()
    program = trace(model)
    rounded = set(rounded_values(program))
    found = [(type(call.operation).__name__, call.outputs[0] in rounded) for call in program.calls]
    assert found == [
        ("Rescaling", True),  # read by the first convolution; what it reads itself is not
        ("Conv2D", False),  # its batch norm and its ReLU are part of it
        ("BatchNormalization", False),
        ("ReLU", True),
        ("Conv2D", True),
        ("DepthwiseConv2D", True),
        ("DepthwiseConv2D", True),
        ("Add", True),
        ("Dropout", True),  # the same values again
        ("Mean", True),
        ("Dense", True),
        ("Sum", False),  # decoding
        ("Sigmoid", False),
    ]
    assert not set(program.inputs) & rounded
    assert len(list(kernels(model, program))) == 4  # the shared layer once


def test_what_a_plan_leaves_float_is_float_with_what_is_fused_to_it() -> None:
    model = networks.every_construct()
    program = trace(model)
    [norm] = [call for call in program.calls if type(call.operation).__name__ == "BatchNormalization"]
    first = program.calls[1].operation
    assert type(first).__name__ == "Conv2D"
    spared = {norm.operation.name}
    left = {kernel.path for kernel, _ in kernels(model, program)}
    left -= {kernel.path for kernel, _ in kernels(model, program, spared)}
    assert left == {weight.path for weight in first.weights if weight.name == "kernel"}
    gone = set(rounded_values(program)) - set(rounded_values(program, spared))
    assert gone == {program.calls[0].outputs[0]}, "its output is still rounded, for the next convolution"


def test_attention_rounds_weights_alone() -> None:
    x = words = keras.Input((6, 8))
    x = keras.layers.MultiHeadAttention(2, 4)(x, x)
    model = keras.Model(words, keras.layers.Dense(3)(keras.layers.LayerNormalization()(x)))
    assert rounded_values(trace(model)) == ()
    assert {axes for _, axes in kernels(model, trace(model))} == {(1, 2), (2,), (-1,)}


def test_a_model_without_a_graph_is_refused() -> None:
    class Own(keras.Model):  # type: ignore[misc]
        def call(self, x: tf.Tensor) -> tf.Tensor:
            return x

    with pytest.raises(UnsupportedError, match="cannot be fine-tuned"):
        trace(Own())


def test_the_rounded_network_answers_like_the_int8_file(tmp_path: Path) -> None:
    """What is trained has to be what is deployed: the file is much closer to it than to float."""
    keras.utils.set_random_seed(3)
    model = networks.depthwise_classifier()
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):  # as after training: not the identity
            shape = layer.gamma.shape
            layer.gamma.assign(np.random.default_rng(4).uniform(0.5, 2.0, shape))
            layer.moving_variance.assign(np.random.default_rng(5).uniform(0.05, 0.5, shape))
    networks.rescale_channels(model, 5, seed=1)
    x = networks.images(24, (28, 28, 1)) / 255
    np.savez(tmp_path / "x.npz", x=x)
    model.save(tmp_path / "model.keras")
    preprocess = {"size": None, "color": "gray", "mean": [0.0], "scale": [1.0]}
    float_model(
        out=tmp_path, progress=silent, model=tmp_path / "model.keras", source="keras", samples=4,
        dataset={"kind": "npz", "path": tmp_path / "x.npz", "preprocess": preprocess},
    )  # fmt: skip
    float_artifact(
        out=tmp_path, progress=silent, saved_model=tmp_path / "saved_model", reference=tmp_path / "reference.npz",
        inputs=tmp_path / "inputs.npz", format="tflite", precision="float32", tolerance=1e-4,
    )  # fmt: skip
    path = tmp_path / "model.tflite"
    found = ranges(path, "tflite", [{"image": sample[None]} for sample in x])
    (tmp_path / "int8.tflite").write_bytes(emit(path.read_bytes(), decide(path, "tflite", "int8", ranges=found)))
    session = open_model(tmp_path / "int8.tflite", "tflite")
    deployed = np.concatenate([session.run([sample[None]])[0] for sample in x])
    right = model(x, training=False).numpy()
    rounded = RoundedNetwork(model, {"image": x}, 8)({"image": tf.constant(x)})["classes"].numpy()
    lost = np.abs(deployed - right).mean()
    assert lost > 1e-3, "int8 must change something, or this test shows nothing"
    assert np.abs(deployed - rounded).mean() < 0.4 * lost


def test_a_distance_is_one_for_a_constant_and_weighs_boxes_by_their_scores() -> None:
    random = np.random.default_rng(0)
    boxes = random.uniform(0, 100, (8, 5, 4)).astype(np.float32)
    scores = np.zeros((8, 5, 2), np.float32)
    scores[:, 0, 1] = 0.9
    taught = {"boxes": boxes, "scores": scores, "count": np.ones((8, 1), np.int64)}
    distance = Distance.fit(taught)
    answers = {name: tf.constant(array) for name, array in taught.items()}
    assert float(distance(answers, answers)) == 0.0
    elsewhere = {**answers, "boxes": tf.constant(boxes + 50.0 * (scores.max(axis=-1, keepdims=True) == 0))}
    assert float(distance(elsewhere, answers)) == 0.0
    probabilities = random.uniform(0, 1, (64, 3)).astype(np.float32)
    alone = Distance.fit({"p": probabilities})
    mean = np.tile(probabilities.mean(axis=0), (64, 1))
    assert float(alone({"p": tf.constant(mean)}, {"p": tf.constant(probabilities)})) == pytest.approx(1.0, rel=1e-5)
