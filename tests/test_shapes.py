"""A model that leaves its size open: what is asked of the user, and what is made of the answer."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from project import FASHION, edgekit, fashion
from small_onnx import write
from small_saved_model import FLOAT, INT32, STRING, saved_model
from tiny_tflite import write_add_relu

from edgekit import inspection, source, target
from edgekit.convert import bind_onnx, bind_tflite
from edgekit.errors import RecipeError, UnsupportedError
from edgekit.runtimes import open_model
from edgekit.source import shapes
from edgekit.source.info import Input

IMAGE = Input("images", (None, 3, None, None), "float32")
M = Path("m.onnx")


def quiet(done: float, text: str) -> None: ...


# -- what the user says -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["images", "images=", "images=a,b", "images=1,3,", "=x", "images=1x3"])
def test_a_shape_that_is_none(text: str) -> None:
    with pytest.raises(RecipeError, match="not NAME=1,3,224,224"):
        shapes.parse([text])


def test_shapes_are_read_by_the_last_equals_sign() -> None:
    assert shapes.parse(["a=b=1,2", "c=1"]) == {"a=b": (1, 2), "c": (1,)}
    with pytest.raises(RecipeError, match="twice"):
        shapes.parse(["a=1", "a=2"])


def test_the_only_input_needs_no_name() -> None:
    assert shapes.check([IMAGE], shapes.parse(["1,3,8,8"]), M) == {"images": (1, 3, 8, 8)}


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("image", (1, 3, 8, 8), "no input 'image'"),
        ("images", (1, 8, 8, 3), "which takes (?, 3, ?, ?)"),
        ("images", (1, 3, 8), "which takes (?, 3, ?, ?)"),
        ("images", (4, 3, 8, 8), "batch 1"),
        ("images", (1, 3, 0, 8), "no size below 1"),
    ],
)
def test_shapes_that_are_not_this_models(name: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        shapes.check([IMAGE], {name: shape}, M)
    assert words in caught.value.message


def test_the_option_that_is_missing_is_written_out() -> None:
    with pytest.raises(RecipeError) as caught:
        shapes.require([IMAGE], {}, M, {})
    assert "--shape images=1,3,HEIGHT,WIDTH" in caught.value.hint
    with pytest.raises(RecipeError) as caught:
        shapes.require([IMAGE], {}, M, {"images": (48, 64, 3)})
    assert "--shape images=1,3,48,64, or shape = {images = [1, 3, 48, 64]} under [model]" in caught.value.hint
    shapes.require([IMAGE], {"images": (1, 3, 8, 8)}, M, {})
    shapes.require([Input("x", (None, 8), "float32")], {}, M, {})  # only the batch is open


@pytest.mark.parametrize(("shape", "option"), [((None, None), "x=1,LENGTH"), ((None, None, 80), "x=1,LENGTH,80")])
def test_sizes_are_called_by_what_they_are(shape: shapes.OpenShape, option: str) -> None:
    assert shapes.option(Input("x", shape, "float32")) == option


def test_strings_are_refused_in_a_sentence() -> None:
    with pytest.raises(UnsupportedError, match="input 'text' takes string values"):
        shapes.require([Input("text", (None,), "string")], {}, M, {})


# -- ONNX ---------------------------------------------------------------------------------------------------------


def test_an_onnx_file_gets_its_size_wherever_its_symbol_stands(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["y"])], "g",
        [value("a", TensorProto.FLOAT, ["n", "length"]), value("b", TensorProto.FLOAT, ["n", "length"])],
        [value("y", TensorProto.FLOAT, ["n", "length"])],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    (tmp_path / "out").mkdir()
    bind_onnx.run(out=tmp_path / "out", progress=quiet, model=tmp_path / "m.onnx", shapes={"a": [1, 7]})
    session = open_model(tmp_path / "out/model.onnx", "onnx")
    assert [tensor["shape"] for tensor in (*session.inputs, *session.outputs)] == [[1, 7]] * 3


def test_a_size_at_which_a_network_does_not_run(tmp_path: Path) -> None:
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "four"], ["y"])], "g", [value("x", TensorProto.FLOAT, ["n", "size"])],
        [value("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("four", TensorProto.INT64, [2], [1, 4])],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), tmp_path / "m.onnx")
    with pytest.raises(UnsupportedError, match="does not run at this size"):
        bind_onnx.run(out=tmp_path, progress=quiet, model=tmp_path / "m.onnx", shapes={"x": [1, 5]})


def test_inspect_counts_at_the_given_size(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", {"y": (1, 10)}, image=("batch", 3, "height", "width"))
    board = [target.load("x86-64")]
    open_one = inspection.look(path, board, quiet)
    assert "axis 2, 3" in open_one.targets[0].refused[0]
    assert "--shape image=1,3,HEIGHT,WIDTH" in open_one.targets[0].refused[0]
    found = inspection.look(path, board, quiet, shapes={"image": (1, 3, 64, 64)})
    assert found.network.macs == 64 * 64 * 8 * 27 + 8 * 10
    assert found.targets[0].takes
    assert found.source.path == path


def test_profile_asks_for_the_size_and_takes_it(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", {"y": (1, 10)}, image=("batch", 3, "height", "width"))
    done = edgekit("profile", path)
    assert done.code == 2
    assert "--shape image=1,3,HEIGHT,WIDTH" in done.err
    done = edgekit("profile", path, "--shape", "image=1,3,32,32", "--seconds", "0.1", "--json")
    assert done.code == 0, done.err
    assert list(json.loads(done.out)) == [str(path)]


def dynamic_recipe(folder: Path) -> Path:
    """The fashion recipe with an ONNX network that leaves height and width open."""
    recipe = fashion(folder, "[prune]\nenabled = false\n[quantize]\nsearch = false\n", target="x86-64")
    write(recipe / "model.onnx", {"probabilities": (1, 10)}, image=("n", 1, "h", "w"), last="Softmax")
    text = (recipe / "edgekit.toml").read_text().replace('"model.keras"', '"model.onnx"')
    (recipe / "edgekit.toml").write_text(text)
    return recipe


def one_channel(path: Path) -> None:
    """Make the image network read one channel."""
    model = onnx.load(path)
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "kernel")
    kernel.CopyFrom(onnx.numpy_helper.from_array(np.full((8, 1, 3, 3), 0.1, np.float32), "kernel"))
    onnx.save(model, path)


def test_a_build_asks_with_the_samples_own_size_before_any_work(tmp_path: Path) -> None:
    recipe = dynamic_recipe(tmp_path / "r")
    one_channel(recipe / "model.onnx")
    done = edgekit("build", "-c", recipe, "--dry-run", "-o", recipe / "out")
    assert done.code == 2
    assert "--shape image=1,1,28,28" in done.err
    planned = edgekit("build", "-c", recipe, "--dry-run", "--shape", "image=1,1,28,28", "--json")
    assert planned.code == 0, planned.err
    assert json.loads(planned.out)["steps"][0]["id"] == "shape"
    with (recipe / "edgekit.toml").open("a") as stream:
        stream.write("[model.shape]\nimage = [1, 1, 28, 28]\n")
    written = edgekit("convert", "-c", recipe, "-o", recipe / "out")
    assert written.code == 0, written.err
    made = next((recipe / "out/convert").glob("onnx-float32*.onnx"))
    assert open_model(made, "onnx").inputs[0]["shape"] == [1, 1, 28, 28]


# -- TFLite -------------------------------------------------------------------------------------------------------


def dynamic_tflite(path: Path) -> Path:
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(write_add_relu(path).read_bytes()))
    for tensor in model.subgraphs[0].tensors:
        tensor.shape, tensor.shapeSignature = [1, 1], [-1, -1]
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    return path


def test_a_tflite_file_gets_its_size(tmp_path: Path) -> None:
    path = dynamic_tflite(tmp_path / "m.tflite")
    assert source.inspect(path).inputs == (Input("image", (None, None), "float32"),)
    (tmp_path / "out").mkdir()
    bind_tflite.run(out=tmp_path / "out", progress=quiet, model=path, shapes={"image": [1, 9]})
    session = open_model(tmp_path / "out/model.tflite", "tflite")
    assert [tensor["shape"] for tensor in (*session.inputs, *session.outputs)] == [[1, 9]] * 3
    fed = np.linspace(-1, 1, 9, dtype=np.float32)[np.newaxis]
    np.testing.assert_array_equal(session.run([fed])[0], fed + fed)


# -- SavedModel, without TensorFlow -------------------------------------------------------------------------------


def test_signatures_are_read_without_tensorflow(tmp_path: Path) -> None:
    path = saved_model(tmp_path / "sm", {"one": {"x": (FLOAT, [-1, 8])}, "two": {"ids": (INT32, [-1, -1])}})
    with pytest.raises(UnsupportedError, match="several signatures") as caught:
        source.inspect(path)
    assert "--signature one" in caught.value.hint
    info = source.inspect(path, "two")
    assert (info.signature, info.inputs) == ("two", (Input("ids", (None, None), "int32"),))
    with pytest.raises(UnsupportedError, match="no signature 'on'") as caught:
        source.inspect(path, "on")
    assert "'one'" in caught.value.hint


def test_the_default_signature_and_the_only_one_need_no_name(tmp_path: Path) -> None:
    both = {"serving_default": {"x": (FLOAT, [-1, 8])}, "a": {"x": (FLOAT, None)}, "__saved_model_init_op": {}}
    assert source.inspect(saved_model(tmp_path / "a", both)).signature == "serving_default"
    only = source.inspect(saved_model(tmp_path / "b", {"run": {"x": (FLOAT, None)}}))
    assert (only.signature, only.inputs[0].shape) == ("run", None)


@pytest.mark.parametrize("op", ["PyFunc", "EagerPyFunc", "ReadFile", "WriteFile"])
def test_a_graph_that_leaves_itself_is_refused(tmp_path: Path, op: str) -> None:
    path = saved_model(tmp_path / "sm", {"run": {"x": (FLOAT, [1])}}, op)
    with pytest.raises(UnsupportedError, match=f"{op} at 'inner'"):
        source.inspect(path)


def test_a_signature_is_no_other_formats(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="only a SavedModel"):
        source.inspect(write(tmp_path / "m.onnx", {"y": (1, 10)}), "one")


def test_text_inputs_end_a_build_before_any_work(tmp_path: Path) -> None:
    recipe = fashion(tmp_path / "r")
    saved_model(recipe / "texts", {"run": {"text": (STRING, [-1])}})
    done = edgekit("build", recipe / "texts", "-c", recipe, "--dry-run")
    assert done.code == 4
    assert "texts: input 'text' takes string values" in done.err


# -- Keras and SavedModels, with TensorFlow -----------------------------------------------------------------------

MAKE = """
import sys, keras, tensorflow as tf
out = sys.argv[1]
x = keras.Input((None, None, 1), name="image")
y = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="conv")(x)
y = keras.layers.GlobalAveragePooling2D()(y)
model = keras.Model(x, {"probabilities": keras.layers.Dense(10, activation="softmax", name="probabilities")(y)})
model.save(f"{out}/model.keras")
model.save(f"{out}/model.h5")
module = tf.Module()
module.model = model
spec = [tf.TensorSpec((None, None, None, 1), tf.uint8, name="image")]
scaled = tf.function(lambda image: model(tf.cast(image, tf.float32) / 255, training=False), input_signature=spec)
tf.saved_model.save(module, f"{out}/sm", signatures={"pixels": scaled, "other": scaled})
"""


@pytest.fixture(scope="module")
def open_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("open")
    subprocess.run([sys.executable, "-c", MAKE, str(folder)], check=True, timeout=300, capture_output=True)
    return folder


def recipe_of(folder: Path, model: Path, extra: str = "") -> Path:
    recipe = fashion(folder, f"[prune]\nenabled = false\n[quantize]\nsearch = false\n{extra}")
    (shutil.copytree if model.is_dir() else shutil.copyfile)(model, recipe / model.name)
    text = (recipe / "edgekit.toml").read_text().replace('"model.keras"', f'"{model.name}"')
    (recipe / "edgekit.toml").write_text(text)
    return recipe


def float_input(folder: Path) -> dict[str, Any]:
    made = next((folder / "convert").glob("tflite-float32*.tflite"))
    return dict(open_model(made, "tflite").inputs[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_a_keras_model_gets_its_size(open_models: Path, tmp_path: Path, name: str) -> None:
    board = [target.load("raspberry-pi-4")]
    found = inspection.look(open_models / name, board, quiet, shapes={"image": (1, 28, 28, 1)})
    assert found.network.macs == 14 * 14 * 8 * 9 + 8 * 10
    recipe = recipe_of(tmp_path / "r", open_models / name)
    asked = edgekit("convert", "-c", recipe, "-o", recipe / "out")
    assert asked.code == 2
    assert "--shape image=1,28,28,1" in asked.err
    if name == "model.h5":
        return  # what follows is the same file
    done = edgekit("convert", "-c", recipe, "-o", recipe / "out", "--shape", "image=1,28,28,1")
    assert done.code == 0, done.err
    assert float_input(recipe / "out")["shape"] == [1, 28, 28, 1]


@pytest.mark.slow
def test_a_saved_model_with_pixels_signatures_and_open_sizes(open_models: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path / "r", open_models / "sm")
    several = edgekit("build", "-c", recipe, "--dry-run")
    assert several.code == 4
    assert "other, pixels" in several.err
    arguments = ("--signature", "pixels", "--shape", "image=1,28,28,1")
    scaled = edgekit("convert", "-c", recipe, "-o", recipe / "out", *arguments)
    assert scaled.code == 2
    assert "'image' takes uint8: they would become others" in scaled.err
    text = (recipe / "edgekit.toml").read_text()
    (recipe / "edgekit.toml").write_text(re.sub(r"scale = \[[^]]*\]", "scale = [1.0]", text))
    done = edgekit("convert", "-c", recipe, "-o", recipe / "out", *arguments)
    assert done.code == 0, done.err
    assert float_input(recipe / "out")["shape"] == [1, 28, 28, 1]


def test_fashion_needs_no_shape() -> None:
    assert source.inspect(FASHION / "model.keras").inputs == (Input("image", (None, 28, 28, 1), "float32"),)
