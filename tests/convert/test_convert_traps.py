"""Each known way to get a silently wrong file, run through the real converters and runtimes (T1 to T16)."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import convert_models as models
import keras
import numpy as np
import onnx as onnx_library
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as litert
from keras import layers

from edgekit import keras_io
from edgekit.convert import float_graph, onnx, package, parity, rewrites, tflite, tflite_quantized
from edgekit.errors import UnsupportedError
from edgekit.quantize.decide import decide, needs_calibration
from edgekit.quantize.graph import read_graph

pytestmark = [
    pytest.mark.slow,
    # TensorFlow and tf2onnx use names that numpy and protobuf are about to remove.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
FORMATS = ["tflite", "onnx"]


def kinds(content: bytes, format: str, folder: Path) -> list[str]:
    path = folder / f"kinds.{format}"
    path.write_bytes(content)
    return [op.kind for op in read_graph(path, format).ops]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("build", [models.detector, models.attention, models.gated])
def test_float_files_equal_the_model(build: Callable[[], keras.Model], format: str, tmp_path: Path) -> None:
    models.check_chain(build(), format, tmp_path)


@pytest.mark.parametrize("format", FORMATS)
def test_names_of_inputs_and_outputs_survive(format: str, tmp_path: Path) -> None:
    content = models.check_chain(models.two_inputs(), format, tmp_path)
    inputs, outputs = package.tensor_specs(content, format)
    assert {spec.name for spec in inputs} == {"z_image", "a_extra"}
    assert {spec.name for spec in outputs} == {"first", "other"}


def test_t1_variables_are_frozen_into_the_file(tmp_path: Path) -> None:
    model = models.detector()
    content = models.check_chain(model, "tflite", tmp_path)
    assert len(content) > 4 * sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert not {"READ_VARIABLE", "VAR_HANDLE"} & set(kinds(content, "tflite", tmp_path))


@pytest.mark.parametrize("format", FORMATS)
def test_t2_the_batch_is_one(format: str, tmp_path: Path) -> None:
    content = models.check_chain(models.gelu(), format, tmp_path)
    inputs, outputs = package.tensor_specs(content, format)
    assert [spec.shape for spec in (*inputs, *outputs)] == [(1, 12), (1, 4)]
    if format == "tflite":  # a dynamic batch hides in the signature of the shape
        interpreter = litert.Interpreter(model_content=content)
        assert all((d["shape_signature"] > 0).all() for d in interpreter.get_input_details())


def test_a_sequential_out_of_an_h5_file_was_never_called(tmp_path: Path) -> None:
    keras.Sequential([keras.Input((8,), name="x"), layers.Dense(3, name="y")]).save(tmp_path / "m.h5")
    model = keras_io.load(tmp_path / "m.h5")
    assert isinstance(model, keras.Sequential)
    fed = {float_graph.input_names(model)[0]: np.ones((1, 8), np.float32)}
    assert {name: array.shape for name, array in float_graph.reference(model, fed).items()} == {"y": (1, 3)}
    float_graph.export_keras(model, tmp_path / "saved")


def test_t2_other_open_dimensions_are_refused(tmp_path: Path) -> None:
    inputs = keras.Input((None, None, 3), name="image")
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(inputs)))
    with pytest.raises(UnsupportedError, match="'image' has a dimension without a size"):
        float_graph.export_keras(model, tmp_path / "saved")


# In a process of its own: converting a looped LSTM to int8 can end the whole process with a segfault.
RECURRENT = """
import sys; from pathlib import Path; sys.path[:0] = sys.argv[3:]
import convert_models as models
from edgekit.quantize import calibrate, decide
from edgekit.convert import float_graph, tflite_quantized
kind, folder = sys.argv[1], Path(sys.argv[2])
model = models.recurrent(kind)
inputs = models.samples(model)
models.check_chain(model, "onnx", folder)
content = models.check_chain(model, "tflite", folder)
path = folder / "float.tflite"; path.write_bytes(content)
assert "WHILE" not in [op.kind for op in decide.read_graph(path, "tflite").ops]
ranges = calibrate.ranges_tflite(path, ({k: v[i:i+1] for k, v in inputs.items()} for i in range(4)))
int8 = tflite_quantized.emit(content, decide.decide(path, "tflite", "int8", ranges=ranges))
reference = float_graph.reference(model, inputs)["out"]
error = abs(models.outputs_of(int8, "tflite", inputs, folder)["out"] - reference).max()
print("error", error)
assert error < 0.05 * max(1, abs(reference).max())  # some twenty 8-bit steps, one after another
"""


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "bidirectional"])
def test_t3_recurrent_layers_are_unrolled_and_quantize(kind: str, tmp_path: Path) -> None:
    here = Path(__file__).parent
    paths = [str(here), str(here.parents[1])]
    command = [sys.executable, "-c", RECURRENT, kind, str(tmp_path), *paths]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.parametrize(("steps", "told"), [(None, "without a fixed length"), (300, "has 300 steps")])
def test_t3_sequences_that_cannot_be_unrolled_are_refused(steps: int | None, told: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match=told):
        float_graph.export_keras(models.recurrent("LSTM", steps), tmp_path / "saved")


def test_t3_unrolling_leaves_other_models_alone() -> None:
    model = models.gelu()
    assert rewrites.rewritten(model) is model


def test_t4_gelu_is_written_with_standard_ops(tmp_path: Path) -> None:
    found = kinds(models.check_chain(models.gelu(), "onnx", tmp_path), "onnx", tmp_path)
    assert "Erfc" not in found
    assert "Erf" in found


@pytest.mark.parametrize("format", FORMATS)
def test_t5_captured_constants_do_not_become_inputs(format: str, tmp_path: Path) -> None:
    content = models.check_chain(models.normalized(), format, tmp_path)
    inputs, _ = package.tensor_specs(content, format)
    assert [spec.name for spec in inputs] == ["features"]


@pytest.mark.parametrize("format", FORMATS)
def test_t6_resizing_does_not_switch_batch_norm_to_training(format: str, tmp_path: Path) -> None:
    model = models.resized()
    before = [np.array(weight) for weight in model.weights]
    models.check_chain(model, format, tmp_path)
    assert all(np.array_equal(a, np.array(b)) for a, b in zip(before, model.weights, strict=True))
    warned = float_graph.warnings_of(model)
    assert any("resizing" in text for text in warned)
    assert float_graph.warnings_of(models.detector()) == []


def test_t6_the_reference_itself_is_in_inference_mode() -> None:
    model = models.resized()
    inputs = models.samples(model)
    predicted = model.predict(inputs["image"], verbose=0)
    assert np.abs(float_graph.reference(model, inputs)["out"] - predicted).max() < 1e-5  # float32 sums


def test_t14_attention_is_quantized_dynamically(tmp_path: Path) -> None:
    model = models.attention()
    content = models.check_chain(model, "tflite", tmp_path)
    path = tmp_path / "float.tflite"
    path.write_bytes(content)
    plan = decide(path, "tflite", "int8")
    assert plan.ops("int8-dynamic")
    assert {d.kind for d in plan.decisions if d.precision == "int8"} == {"GATHER"}  # the embeddings
    assert not needs_calibration(path, "tflite", "int8")
    inputs = models.samples(model)
    outputs = models.outputs_of(tflite_quantized.emit(content, plan), "tflite", inputs, tmp_path)
    # Weights and activations in 8 bits through one block.
    found = parity.compare(float_graph.reference(model, inputs), outputs, 0.05)
    assert found.passed, found.problem


def test_t16_onnx_keeps_the_layout_and_says_so(tmp_path: Path) -> None:
    content = models.check_chain(models.detector(), "onnx", tmp_path)
    assert package.tensor_specs(content, "onnx")[0][0].layout == "NHWC"
    assert kinds(content, "onnx", tmp_path)[0] == "Transpose"


def test_upsampling_is_one_resize_op(tmp_path: Path) -> None:
    for format, kind in (("tflite", "RESIZE_NEAREST_NEIGHBOR"), ("onnx", "Resize")):
        found = kinds(models.check_chain(models.detector(), format, tmp_path / format), format, tmp_path)
        assert kind in found
        assert not {"TILE", "Tile"} & set(found)


@pytest.mark.parametrize("format", FORMATS)
def test_two_conversions_give_the_same_bytes(format: str, tmp_path: Path) -> None:
    model = models.detector()
    for name in ("a", "b"):
        float_graph.export_keras(model, tmp_path / name)
    assert models.converted(tmp_path / "a", format) == models.converted(tmp_path / "b", format)


def test_nodes_carry_the_names_of_layers(tmp_path: Path) -> None:
    proto = onnx_library.load_from_string(models.check_chain(models.detector(), "onnx", tmp_path))
    convolutions = [node.name for node in proto.graph.node if node.op_type == "Conv"]
    assert all("conv" in name for name in convolutions)
    assert len({node.name for node in proto.graph.node}) == len(proto.graph.node)


@pytest.mark.parametrize("format", FORMATS)
def test_a_users_saved_model_with_dynamic_batch(format: str, tmp_path: Path) -> None:
    class Scaled(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = tf.Variable([1.0, 2.0, 3.0])

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, 3], tf.float32, "left"),
                tf.TensorSpec([None, 3], tf.float32, "right"),
            ]
        )
        def __call__(self, left: tf.Tensor, right: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"sum": left * self.factor + right, "product": left * right}

    module = Scaled()
    tf.saved_model.save(module, str(tmp_path / "user"), signatures=module.__call__)
    float_graph.resign(tmp_path / "user", tmp_path / "fixed")
    random = np.random.default_rng(0)
    inputs = {name: random.normal(size=(3, 3)).astype(np.float32) for name in ("left", "right")}
    expected = float_graph.saved_model_reference(tmp_path / "user", inputs)
    assert np.allclose(expected["sum"], inputs["left"] * [1, 2, 3] + inputs["right"])
    content = models.converted(tmp_path / "fixed", format)
    found = parity.compare(expected, models.outputs_of(content, format, inputs, tmp_path))
    assert found.passed, found.problem


def test_a_saved_model_with_an_open_dimension_is_refused(tmp_path: Path) -> None:
    module = tf.Module()
    module.f = tf.function(lambda x: {"y": x * 2.0}, input_signature=[tf.TensorSpec([None, None], tf.float32, "x")])
    tf.saved_model.save(module, str(tmp_path / "user"), signatures=module.f)
    with pytest.raises(UnsupportedError, match="'x' has a dimension without a size"):
        float_graph.resign(tmp_path / "user", tmp_path / "fixed")


def test_ops_without_a_builtin_are_named(tmp_path: Path) -> None:
    module = tf.Module()
    module.f = tf.function(
        lambda x: {"y": tf.math.digamma(x)}, input_signature=[tf.TensorSpec([1, 3], tf.float32, "x")]
    )
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.f)
    with pytest.raises(UnsupportedError, match="Digamma"):
        tflite.float32(tmp_path / "saved")
    with pytest.raises(UnsupportedError, match="Digamma"):
        onnx.float32(tmp_path / "saved")


def test_models_without_a_graph_are_refused(tmp_path: Path) -> None:
    class Subclassed(keras.Model):  # type: ignore[misc]
        def call(self, x: tf.Tensor) -> tf.Tensor:
            return x * 2.0

    with pytest.raises(UnsupportedError, match="no fixed graph"):
        float_graph.export_keras(Subclassed(), tmp_path / "saved")


def test_float16_halves_the_weights_and_keeps_float32_at_the_ends(tmp_path: Path) -> None:
    inputs = keras.Input((64,), name="x")
    model = models._filled(keras.Model(inputs, layers.Dense(64, name="out")(layers.Dense(256)(inputs))))
    full = models.check_chain(model, "tflite", tmp_path)
    half = tflite.float16(tmp_path / "saved")
    assert len(half) < 0.6 * len(full)
    specs = package.tensor_specs(half, "tflite")
    assert {spec.dtype for side in specs for spec in side} == {"float32"}
    data = models.samples(model)
    found = parity.compare(
        float_graph.reference(model, data), models.outputs_of(half, "tflite", data, tmp_path), 1e-2
    )  # 11 bits of mantissa
    assert found.passed, found.problem
