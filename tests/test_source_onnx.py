"""A user's ONNX file: what is refused before any work starts, and what is said of the rest."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.errors import RecipeError, UnsupportedError
from edgekit.source import inspect


def onnx_model(path: Path, weight: np.ndarray[Any, Any], *, op: str = "Add", domain: str = "") -> onnx.ModelProto:
    constant = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.ones(3, np.float32)))
    shape = numpy_helper.from_array(np.array([3], np.int64), "shape")
    nodes = [
        constant,
        helper.make_node(op, ["x", "w"], ["s"], domain=domain),
        helper.make_node("Add", ["s", "c"], ["t"]),
        helper.make_node("Reshape", ["t", "shape"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [numpy_helper.from_array(weight, "w"), shape])
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=opsets)
    onnx.save(model, path)
    return model


def test_an_onnx_file(tmp_path: Path) -> None:
    onnx_model(tmp_path / "m.onnx", np.ones(3, np.float32))
    info = inspect(tmp_path / "m.onnx")
    assert info.format == "onnx"
    assert info.parameters == 6, "the initializer and the Constant, not the int64 shape"
    assert info.layers == ("Constant", "Add", "Add", "Reshape")
    assert not info.warnings


def test_onnx_nan_is_refused_and_infinity_is_not(tmp_path: Path) -> None:
    onnx_model(tmp_path / "m.onnx", np.array([-np.inf, 0, 1], np.float32))  # an attention mask
    inspect(tmp_path / "m.onnx")
    onnx_model(tmp_path / "m.onnx", np.array([np.nan, 0, 1], np.float16))
    with pytest.raises(UnsupportedError, match="NaN in the tensor 'w'"):
        inspect(tmp_path / "m.onnx")


def test_onnx_custom_operators(tmp_path: Path) -> None:
    onnx_model(tmp_path / "m.onnx", np.ones(3, np.float32), op="Mish2", domain="my.ops")
    with pytest.raises(UnsupportedError, match=r"my\.ops\.Mish2"):
        inspect(tmp_path / "m.onnx")


def test_onnx_quantized_already(tmp_path: Path) -> None:
    onnx_model(tmp_path / "m.onnx", np.ones(3, np.float32), op="DequantizeLinear")
    assert "quantized already" in inspect(tmp_path / "m.onnx").warnings[0]


def with_external(path: Path, location: str, length: int = 12) -> None:
    model = onnx_model(path, np.ones(3, np.float32))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


def test_onnx_external_data(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "m.onnx"
    np.ones(3, np.float32).tofile(folder / "w.bin")
    np.ones(3, np.float32).tofile(tmp_path / "outside.bin")
    with_external(path, "w.bin")
    assert inspect(path).parameters == 6
    with_external(path, "none.bin")
    with pytest.raises(RecipeError, match=r"'none\.bin', which is missing"):
        inspect(path)
    with_external(path, "w.bin", length=4000)
    with pytest.raises(RecipeError, match="truncated"):
        inspect(path)
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    for location in ("../outside.bin", str(tmp_path / "outside.bin"), "link.bin", ""):
        with_external(path, location)
        with pytest.raises(UnsupportedError, match="outside its folder"):
            inspect(path)


def test_onnx_nan_in_external_data(tmp_path: Path) -> None:
    np.array([0, np.nan, 0], np.float32).tofile(tmp_path / "w.bin")
    with_external(tmp_path / "m.onnx", "w.bin")
    with pytest.raises(UnsupportedError, match="NaN"):
        inspect(tmp_path / "m.onnx")


def test_onnx_damage_ends_in_an_expected_error(tmp_path: Path) -> None:
    onnx_model(tmp_path / "m.onnx", np.ones(3, np.float32))
    whole = (tmp_path / "m.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RecipeError, match="not an ONNX file"):
        inspect(tmp_path / "m.onnx")
    random = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[int(random.integers(len(whole)))] = int(random.integers(256))
        (tmp_path / "m.onnx").write_bytes(damaged)
        try:
            inspect(tmp_path / "m.onnx")
        except (RecipeError, UnsupportedError):
            continue


def test_onnx_a_tensor_of_another_size_than_it_says(tmp_path: Path) -> None:
    model = onnx_model(tmp_path / "m.onnx", np.ones(3, np.float32))
    model.graph.initializer[0].dims[0] = 4
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(RecipeError, match="'w' cannot be read"):
        inspect(tmp_path / "m.onnx")
