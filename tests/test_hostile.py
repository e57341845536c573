"""Files made to harm: each ends in an exit code and a sentence, runs nothing, and takes bounded time and memory."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from project import FASHION, edgekit, fashion
from small_onnx import write
from tiny_tflite import write_add_relu

from edgekit import arrays, inspection, source, target
from edgekit.errors import EdgekitError
from edgekit.source import shapes

BOUND_S = 60.0  # of CPU time, some ten times what each takes
FLOAT = TensorProto.FLOAT
Items = Sequence[Any]


def value(name: str, *shape: int | str, kind: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))


def onnx_file(
    path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: Sequence[Any] = ()
) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def keras_file(path: Path, change: Callable[[dict[str, Any]], None], more: dict[str, bytes] | None = None) -> Path:
    """Write the fashion classifier with its configuration changed, and more members."""
    with zipfile.ZipFile(FASHION / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (members | (more or {})).items():
            archive.writestr(name, content)
    return path


def layer(config: dict[str, Any], kind: str, number: int = 0) -> dict[str, Any]:
    found: list[dict[str, Any]] = [item for item in config["config"]["layers"] if item["class_name"] == kind]
    return found[number]


# -- pickles ------------------------------------------------------------------------------------------------------


class Payload:
    """What is run when someone unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    "name", ["m.pt", "m.pth", "m.pkl", "m.joblib", "m.onnx", "m.tflite", "m.keras", "m.h5", "m.pt2"]
)
@pytest.mark.parametrize("packed", [False, True], ids=["bare", "in a zip"])
def test_a_pickle_in_any_disguise(tmp_path: Path, name: str, packed: bool) -> None:
    path, mark = tmp_path / name, tmp_path / "executed"
    content = pickle.dumps(Payload(mark))
    if packed:  # what torch.save writes
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", content)
    else:
        path.write_bytes(content)
    with pytest.raises(EdgekitError) as caught:
        source.inspect(path)
    assert caught.value.exit_code in (2, 4)
    assert not mark.exists()
    if name in ("m.pt", "m.pth"):
        assert "torch.export.save(program, 'model.pt2')" in caught.value.hint
        assert "torch" not in sys.modules


def test_a_pickle_among_the_samples(tmp_path: Path) -> None:
    recipe = fashion(tmp_path / "r")
    held = np.array([Payload(tmp_path / "executed")], object)
    np.savez(recipe / "data/calibration.npz", x=held)
    done = edgekit("build", "-c", recipe, "--dry-run")
    assert done.code == 2
    assert not (tmp_path / "executed").exists()


# -- archives -----------------------------------------------------------------------------------------------------


def test_a_zip_bomb(tmp_path: Path) -> None:
    path = keras_file(tmp_path / "m.keras", lambda _: None, {"assets/zeros": bytes(400 << 20)})
    with pytest.raises(EdgekitError, match="times its size") as caught:
        source.inspect(path)
    assert caught.value.exit_code == 4


def test_a_configuration_of_many_megabytes(tmp_path: Path) -> None:
    def pad(config: dict[str, Any]) -> None:
        config["padding"] = " " * (40 << 20)

    with pytest.raises(EdgekitError, match="more than edgekit reads"):
        source.inspect(keras_file(tmp_path / "m.keras", pad))


# -- graphs -------------------------------------------------------------------------------------------------------


def circle(path: Path) -> Path:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    return onnx_file(path, nodes, [value("x", 1, 4)], [value("b", 1, 4)])


def orphan(path: Path) -> Path:
    return onnx_file(path, [helper.make_node("Add", ["x", "w"], ["y"])], [value("x", 1, 4)], [value("y", 1, 4)])


def circle_inside(path: Path) -> Path:
    inner = helper.make_graph([helper.make_node("Add", ["x", "z"], ["z"])], "inner", [], [value("z", 1, 4)])
    nodes = [helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)]
    return onnx_file(path, nodes, [value("x", 1, 4), value("c", 1, kind=TensorProto.BOOL)], [value("y", 1, 4)])


def huge_weight(path: Path) -> Path:
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[1 << 20, 1 << 20])
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    return onnx_file(path, nodes, [value("x", 1, 4)], [value("y", 1, 4)], [tensor])


def complex_weight(path: Path) -> Path:
    tensor = helper.make_tensor("w", TensorProto.COMPLEX64, [1, 4], [1 + 1j] * 4)
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    return onnx_file(path, nodes, [value("x", 1, 4)], [value("y", 1, 4)], [tensor])


def keras_circle(path: Path) -> Path:
    def turn(config: dict[str, Any]) -> None:
        first, second = layer(config, "ReLU"), layer(config, "ReLU", 1)
        end = first["inbound_nodes"][0]["args"][0]["config"]
        end["keras_history"] = [second["name"], 0, 0]

    return keras_file(path, turn)


def keras_orphan(path: Path) -> Path:
    def turn(config: dict[str, Any]) -> None:
        layer(config, "ReLU")["inbound_nodes"][0]["args"][0]["config"]["keras_history"] = ["nobody", 0, 0]

    return keras_file(path, turn)


def keras_huge(path: Path) -> Path:
    def grow(config: dict[str, Any]) -> None:
        layer(config, "Dense")["config"]["units"] = 1 << 40

    return keras_file(path, grow)


REFUSED: dict[str, tuple[Callable[[Path], Path], str, int, str]] = {
    "circle": (circle, "m.onnx", 2, "reads 'b', which nothing before it makes"),
    "circle in a branch": (circle_inside, "m.onnx", 2, "reads 'z', which nothing before it makes"),
    "missing weight": (orphan, "m.onnx", 2, "reads 'w', which nothing before it makes"),
    "2^40 elements": (huge_weight, "m.onnx", 2, "has the shape [1048576, 1048576]"),
    "complex numbers": (complex_weight, "m.onnx", 4, "complex numbers in the tensor 'w'"),
    "Keras circle": (keras_circle, "m.keras", 2, "waits for its own result"),
    "Keras orphan": (keras_orphan, "m.keras", 2, "reads 'nobody', which is not there"),
    "Keras 2^40 units": (keras_huge, "m.keras", 2, "units of the layer"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_graph_that_cannot_be(tmp_path: Path, name: str) -> None:
    make, file, code, words = REFUSED[name]
    path = make(tmp_path / file)
    with pytest.raises(EdgekitError) as caught:
        source.inspect(path)
    assert caught.value.exit_code == code
    assert words in caught.value.message
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("shape", "kind", "words"),
    [
        ((1, 0, 4), FLOAT, "has a size of 0"),
        ((1, 1 << 20, 1 << 20), FLOAT, "1.1e+12 elements"),
        ((1, 4), TensorProto.COMPLEX64, "takes complex64 values"),
        ((1, 4), TensorProto.STRING, "takes string values"),
    ],
    ids=["zero", "2^40", "complex", "string"],
)
def test_inputs_that_no_target_takes(tmp_path: Path, shape: tuple[int, ...], kind: int, words: str) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    path = onnx_file(tmp_path / "m.onnx", [node], [value("x", *shape, kind=kind)], [value("y", *shape, kind=kind)])
    info = source.inspect(path)
    with pytest.raises(EdgekitError) as caught:
        shapes.require(info.inputs, {}, path, {})
    assert (caught.value.exit_code, words in caught.value.message) == (4, True)
    found = inspection.look(path, [target.load("x86-64")], lambda *_: None)
    assert not found.targets[0].takes


def test_a_tflite_op_that_reads_what_comes_later(tmp_path: Path) -> None:
    from ai_edge_litert.tools import flatbuffer_utils

    path = write_add_relu(tmp_path / "m.tflite")
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))
    model.subgraphs[0].operators[0].inputs = [0, 2]
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    with pytest.raises(EdgekitError, match="before it is made") as caught:
        source.inspect(path)
    assert caught.value.exit_code == 2


# -- names --------------------------------------------------------------------------------------------------------

NAMES = [
    "a/b",
    "../../up",
    "line\nbreak",
    "[bold red]markup[/]",
    "\x1b[2J",
    "🙂 smile",
    "file",
    "allow_pickle",
    "a" * 5000,
]


def test_arrays_keep_whatever_name(tmp_path: Path) -> None:
    given = {name: np.full(2, number, np.float32) for number, name in enumerate(NAMES)}
    arrays.save(tmp_path / "a.npz", given)
    found = arrays.load(tmp_path / "a.npz")
    assert {name: array.tolist() for name, array in found.items()} == {n: a.tolist() for n, a in given.items()}
    assert list(tmp_path.iterdir()) == [tmp_path / "a.npz"]
    with pytest.raises(ValueError, match="Object arrays"):
        arrays.save(tmp_path / "b.npz", {"x": np.array([None])})


def test_a_network_with_such_names_is_converted(tmp_path: Path) -> None:
    names = [name for name in NAMES if len(name) < 100]
    recipe = fashion(tmp_path / "r", "[prune]\nenabled = false\n[quantize]\nenabled = false\n", target="x86-64")
    nodes = [helper.make_node("GlobalAveragePool", ["file"], [names[0]], names[1])]
    nodes += [helper.make_node("Relu", [names[0]], [name], f"n{name}") for name in names[1:] if name != "file"]
    outputs = [value(name, 1, 1, 1, 1) for name in names if name != "file"]
    onnx_file(recipe / "model.onnx", nodes, [value("file", 1, 1, 28, 28)], outputs)
    text = (recipe / "edgekit.toml").read_text().replace('"model.keras"', '"model.onnx"')
    (recipe / "edgekit.toml").write_text(text)
    before = set(tmp_path.rglob("*"))
    done = edgekit("convert", "-c", recipe, "-o", recipe / "out")
    assert done.code == 0, done.err
    assert "\x1b" not in done.err
    made = [path for path in set(tmp_path.rglob("*")) - before if recipe / "out" not in (path, *path.parents)]
    assert made == []


# -- size ---------------------------------------------------------------------------------------------------------


def test_a_network_of_10_000_nodes(tmp_path: Path) -> None:
    count = 10_000
    nodes = [helper.make_node("Add", [f"t{i}", f"w{i}"], [f"t{i + 1}"], f"n{i}") for i in range(count)]
    weights = [onnx.numpy_helper.from_array(np.ones((1, 512), np.float32), f"w{i}") for i in range(count)]
    path = onnx_file(tmp_path / "m.onnx", nodes, [value("t0", 1, 512)], [value(f"t{count}", 1, 512)], weights)
    began = time.process_time()
    found = inspection.look(path, [target.load(name) for name in target.names()], lambda *_: None)
    assert time.process_time() - began < BOUND_S
    assert found.network.histogram == {"Add": count}
    assert found.activation_bytes == 2 * 512 * 4


def test_a_keras_network_of_10_000_layers(tmp_path: Path) -> None:
    def grow(config: dict[str, Any]) -> None:
        layers = config["config"]["layers"]
        template = layer(config, "ReLU")
        end = config["config"]["output_layers"]
        before = template["inbound_nodes"][0]["args"][0]["config"]
        for number in range(10_000):
            tensor = {**before, "keras_history": [f"more{number - 1}" if number else template["name"], 0, 0]}
            node = {"args": [{"class_name": "__keras_tensor__", "config": tensor}], "kwargs": {}}
            name = f"more{number}"
            layers.append({**template, "name": name, "config": {"name": name}, "inbound_nodes": [node]})
        assert end

    path = keras_file(tmp_path / "m.keras", grow)
    began = time.process_time()
    found = inspection.look(path, [], lambda *_: None)
    assert time.process_time() - began < BOUND_S
    assert found.network.histogram["ReLU"] > 10_000


LOOK = """
import re, sys
from pathlib import Path
from edgekit import inspection, target
found = inspection.look(Path(sys.argv[1]), [target.load("x86-64")], lambda *_: None)
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())  # rusage's counts the parent, too
print(found.network.parameters, int(peak[1]) << 10)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells a process' peak memory this way")
def test_a_model_of_a_gigabyte_takes_little_memory(tmp_path: Path) -> None:
    """Its weights lie in a file beside it, and are read piece by piece."""
    columns = 1 << 18
    tensor = TensorProto(name="w", data_type=FLOAT, dims=[1024, columns], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="w.bin")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    path = onnx_file(tmp_path / "m.onnx", nodes, [value("x", 1, 1024)], [value("y", 1, columns)], [tensor])
    with (tmp_path / "w.bin").open("wb") as stream:
        stream.truncate(1024 * columns * 4)  # a gigabyte of zeros that takes no room on the disk
    done = subprocess.run([sys.executable, "-c", LOOK, str(path)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    parameters, peak = map(int, done.stdout.split())
    assert parameters == 1 << 28
    assert peak < 600 << 20, "the interpreter with its libraries, and one block of weights"


def test_the_text_of_a_hostile_name_stays_text(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", {"[link=file:///etc]x": (1, 10)}, image=(1, 3, "[red]h", 64))
    done = edgekit("inspect", path)
    assert done.code == 0, done.err
    assert "[link=file:///etc]x" in done.out
