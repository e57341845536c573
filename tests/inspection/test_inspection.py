"""What `edgekit inspect` says of a file is what the file holds, in whichever format it comes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from project import DETECTOR, FASHION, SAMPLES, edgekit
from small_onnx import write
from tiny_tflite import write_add_relu

from edgekit import target
from edgekit.errors import RecipeError, UnsupportedError
from edgekit.inspection import Inspection, look
from edgekit.inspection.network import Network, Op, Tensor, peak_bytes

ALL = [target.load(name) for name in target.names()]


def seen(path: Path, signature: str = "") -> Inspection:
    return look(path, ALL, lambda done, text: None, signature)


def answer(found: Inspection, name: str, format: str) -> tuple[str, ...]:
    return next(item.refused for item in found.targets if (item.target, item.format) == (name, format))


def test_a_keras_detector_by_its_configuration_alone() -> None:
    found = seen(DETECTOR / "model.keras")
    assert [(t.name, t.shape, t.layout) for t in found.network.inputs] == [("image", (None, 128, 128, 3), "NHWC")]
    shapes = {t.name: t.shape for t in found.network.outputs}
    assert shapes == {"boxes": (None, 1024, 4), "scores": (None, 1024, 10)}
    assert found.network.histogram["Conv2D"] == 21
    assert found.task.kind == "detection"
    assert found.task.classes == 10
    assert found.activation_bytes is not None
    assert found.activation_bytes >= 2 * 64 * 64 * 32 * 4, "the stem's result and what the next layer makes of it"


@pytest.mark.parametrize("name", ["fashion_classifier", "text_encoder", "digits_detector"])
def test_no_tensorflow_where_the_format_allows(name: str, tmp_path: Path) -> None:
    onnx_file = write(tmp_path / "m.onnx", {"y": (1, 10)})
    tflite_file = write_add_relu(tmp_path / "m.tflite")
    script = (
        "import sys; from pathlib import Path; from edgekit.inspection import look\n"
        f"for path in {[str(SAMPLES / name / 'model.keras'), str(onnx_file), str(tflite_file)]!r}:\n"
        "    assert look(Path(path), [], lambda *_: None).network.macs is not None\n"
        "sys.exit(bool({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=120).returncode == 0


def test_an_onnx_network(tmp_path: Path) -> None:
    found = seen(write(tmp_path / "m.onnx", {"probabilities": (1, 10)}, last="Softmax"))
    network = found.network
    assert network.inputs[0].layout == "NCHW"
    assert network.version == "opset 18"
    assert network.macs == 64 * 64 * 8 * 27 + 8 * 10
    assert network.parameters == 8 * 27 + 8 * 10
    assert found.task.kind == "classification"
    assert "softmax" in found.task.why
    assert answer(found, "jetson-orin-nano", "onnx") == ()
    assert answer(found, "pixel-8", "tflite") == ()
    layouts = {item.target: item.layouts for item in found.targets}
    assert layouts["pixel-8"] == {"image": ("NCHW", "NHWC")}
    assert layouts["jetson-orin-nano"] == {}
    random = seen(write(tmp_path / "r.onnx", {"probabilities": (1, 10)}, last="Bernoulli"))
    assert "Bernoulli at 'probabilities': TFLite has no form of it" in answer(random, "pixel-8", "tflite")
    orin = next(item for item in found.targets if item.target == "jetson-orin-nano")
    assert orin.float_ops["Softmax"] == 1
    assert "int8 softmax" in orin.reasons["Softmax"]


def test_open_sizes_are_named_by_axis_and_cost_nothing_known(tmp_path: Path) -> None:
    found = seen(write(tmp_path / "m.onnx", {"y": (1, 10)}, image=("batch", 3, "height", 64)))
    assert found.network.inputs[0].dynamic_axes == (0, 2)
    assert found.network.macs is None
    assert found.activation_bytes is None
    assert "axis 2" in answer(found, "x86-64", "onnx")[0]
    only_batch = seen(write(tmp_path / "b.onnx", {"y": (1, 10)}, image=("batch", 3, 64, 64)))
    assert answer(only_batch, "x86-64", "onnx") == ()


def test_an_old_opset_and_an_operator_that_a_target_lacks_are_named_before_any_work(tmp_path: Path) -> None:
    assert "opset 6" in answer(seen(write(tmp_path / "m.onnx", {"y": (1, 10)}, opset=6)), "x86-64", "onnx")[0]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Det", ["x"], ["y"], "determinant")], "g",
        [value("x", TensorProto.FLOAT, [1, 3, 3])], [value("y", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), tmp_path / "det.onnx")
    found = seen(tmp_path / "det.onnx")
    assert "Det at 'determinant'" in answer(found, "jetson-orin-nano", "onnx")[0]
    assert answer(found, "x86-64", "onnx") == ()


def test_a_tflite_file(tmp_path: Path) -> None:
    found = seen(write_add_relu(tmp_path / "m.tflite"))
    assert [t.name for t in found.network.inputs] == ["image"]
    assert [t.name for t in found.network.outputs] == ["sum", "scores"]
    assert found.network.histogram == {"ADD": 1, "RELU": 1}
    assert found.source.format == "tflite"
    assert not found.network.quantized


@pytest.mark.parametrize("size", [0, 3, 40, 200])
def test_a_truncated_tflite_file_is_damaged(tmp_path: Path, size: int) -> None:
    content = write_add_relu(tmp_path / "m.tflite").read_bytes()
    (tmp_path / "m.tflite").write_bytes(content[:size])
    with pytest.raises(RecipeError):
        seen(tmp_path / "m.tflite")


def test_the_peak_counts_what_is_alive_together() -> None:
    tensors = {name: Tensor(name, (1, 250), "float32") for name in "abcd"}
    ops = (Op("ADD", "b", ("a",), ("b",)), Op("ADD", "c", ("b",), ("c",)), Op("ADD", "d", ("c", "a"), ("d",)))
    network = Network((tensors["a"],), (tensors["d"],), ops, tensors)
    assert peak_bytes(network) == 3000, "a waits for the last op while c is made of b"
    relu = (Op("RELU", "b", ("a",), ("b",)), *ops[1:2])
    assert peak_bytes(Network((tensors["a"],), (tensors["c"],), relu, tensors)) == 2000


def test_hostile_names_reach_no_terminal(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", {"[red]\x1b[2J\nevil🙂": (1, 10)})
    done = edgekit("inspect", path)
    assert done.code == 0, done.err
    assert "\x1b" not in done.out
    assert "[red]" in done.out


def test_the_command_line_at_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [sys.executable, "-m", "edgekit", "inspect", str(FASHION / "model.keras")]
    monkeypatch.setenv("COLUMNS", "80")
    lines = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.splitlines()
    assert max(len(line.rstrip()) for line in lines[1:]) <= 80  # the first is the path, however long
    text = "\n".join(lines)
    for part in ("input", "image", "105,562 parameters", "11.0 M MACs", "classification", "jetson-orin-nano"):
        assert part in text
    data = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=60).stdout)
    assert data["macs"] == 10_951_552
    assert data["task"]["kind"] == "classification"
    assert {item["target"] for item in data["targets"]} == set(target.names())


@pytest.mark.slow
def test_h5_nested_models_and_saved_models(tmp_path: Path) -> None:
    """One child makes the three files; what is read of each is what the file it was made of says."""
    script = f"""
import keras, tensorflow as tf
m = keras.saving.load_model({str(FASHION / "model.keras")!r}, compile=False)
m.save({str(tmp_path / "m.h5")!r})
module = tf.Module()
module.model = m
spec = tf.TensorSpec((None, 28, 28, 1), tf.float32, name="image")
one = tf.function(lambda image: m(image, training=False), input_signature=[spec])
two = tf.function(lambda image: {{"half": m(image, training=False)["probabilities"] / 2}}, input_signature=[spec])
tf.saved_model.save(module, {str(tmp_path / "sm")!r}, signatures={{"one": one, "two": two}})
body = keras.Input((32, 32, 8))
body = keras.Model(body, keras.layers.DepthwiseConv2D(3, strides=2)(body), name="body")
head = keras.Sequential([keras.layers.Conv2D(8, 3, padding="same"), keras.layers.ReLU()], name="head")
x = keras.Input((32, 32, 3), name="x")
y = keras.layers.Dense(5, name="y")(keras.layers.GlobalMaxPooling2D()(body(head(x))))
keras.Model(x, y).save({str(tmp_path / "nested.keras")!r})
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=180, capture_output=True)
    keras = seen(FASHION / "model.keras")
    h5 = seen(tmp_path / "m.h5")
    assert (h5.network.macs, h5.network.histogram) == (keras.network.macs, keras.network.histogram)
    saved = seen(tmp_path / "sm", "two")
    assert saved.network.macs == keras.network.macs
    assert [(t.name, t.shape) for t in saved.network.inputs] == [("image", (None, 28, 28, 1))]
    assert [t.name for t in saved.network.outputs] == ["half"]
    with pytest.raises(UnsupportedError, match="one, two"):
        seen(tmp_path / "sm")
    nested = seen(tmp_path / "nested.keras")
    assert nested.network.macs == 32 * 32 * 8 * 27 + 15 * 15 * 8 * 9 + 8 * 5
    assert nested.network.histogram["DepthwiseConv2D"] == 1
