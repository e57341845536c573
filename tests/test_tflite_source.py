"""A .tflite file as the model of a build: quantized, scored and timed; already quantized, as it is."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from onnx import TensorProto, helper, numpy_helper
from project import TARGET, edgekit, fashion, report_of
from tiny_tflite import write_add_relu

from edgekit.artifact import TensorSpec
from edgekit.convert import tflite_source
from edgekit.errors import UnsupportedError
from edgekit.quantize.calibrate import ranges_tflite
from edgekit.runtimes import open_model
from edgekit.source.tflite_file import read_model


def with_float16_weights(source: Path, path: Path) -> Path:
    """Write the model as converters write float16: each weight behind a DEQUANTIZE."""
    model = flatbuffer_utils.read_model(str(source))
    graph = model.subgraphs[0]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.DEQUANTIZE
    code.version = 1
    model.operatorCodes.append(code)
    added = []
    for index, tensor in enumerate(list(graph.tensors)):
        data = model.buffers[tensor.buffer].data
        if tensor.type != schema.TensorType.FLOAT32 or data is None or not len(data):
            continue
        half = schema.TensorT()
        half.name, half.shape, half.type = tensor.name + b"_half", tensor.shape, schema.TensorType.FLOAT16
        values = np.frombuffer(bytes(data), np.float32).astype(np.float16)
        model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
        half.buffer, tensor.buffer = tensor.buffer, 0
        graph.tensors.append(half)
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = len(model.operatorCodes) - 1, [len(graph.tensors) - 1], [index]
        added.append(op)
    graph.operators = [*added, *graph.operators]
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    return path


def recipe_for(model: Path, folder: Path, target: str = TARGET) -> Path:
    made = fashion(folder, target=target)
    (made / "model.keras").unlink()
    shutil.copyfile(model, made / f"model{model.suffix}")
    text = (made / "edgekit.toml").read_text().replace("model.keras", f"model{model.suffix}")
    (made / "edgekit.toml").write_text(text)
    return made


def built(folder: Path) -> dict[str, Any]:
    done = edgekit("build", "-c", folder, "-o", folder / "out", "--time-budget", "3s", timeout_s=300)
    assert done.code == 0, done.err
    return report_of(folder / "out")


@pytest.mark.slow
def test_a_float_tflite_file_is_quantized_and_its_int8_file_passes_through(finished: Path, tmp_path: Path) -> None:
    sources = finished / "out" / "variants"
    source = with_float16_weights(sources / "tflite-float32-original.tflite", tmp_path / "half.tflite")
    report = built(recipe_for(source, tmp_path / "half"))
    variants = {item["name"]: item for item in report["targets"][0]["variants"]}
    assert set(variants) == {"float32", "int8"}
    assert all(item["accuracy"] for item in variants.values())
    assert variants["int8"]["size_bytes"] < 0.5 * variants["float32"]["size_bytes"]

    again = recipe_for(tmp_path / "half" / "out" / "variants" / "tflite-int8-original.tflite", tmp_path / "int8")
    report = built(again)
    (row,) = report["targets"][0]["variants"]
    assert (row["name"], row["precision"]) == ("int8", "int8")
    assert row["accuracy"]["value"] == variants["int8"]["accuracy"]["value"]
    assert any("quantized already" in line for line in report["warnings"])


def test_float16_weights_become_float32_with_the_same_numbers(tmp_path: Path) -> None:
    path = write_add_relu(tmp_path / "m.tflite")
    model = flatbuffer_utils.read_model(str(path))
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.array([1, 2, 3, 0.1], np.float32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    constant = schema.TensorT()
    constant.name, constant.shape, constant.type, constant.buffer = b"c", [1, 4], schema.TensorType.FLOAT32, 1
    model.subgraphs[0].tensors.append(constant)
    model.subgraphs[0].operators[0].inputs = [0, 3]
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    half = with_float16_weights(path, tmp_path / "half.tflite")
    objects = read_model(half)
    assert tflite_source.widen(objects)
    (tmp_path / "wide.tflite").write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(objects)))
    assert len(read_model(tmp_path / "wide.tflite").subgraphs[0].operators) == 2
    entry = [np.array([[1, 1, 1, 1]], np.float32)]
    for before, after in zip(*(open_model(p, "tflite").run(entry) for p in (half, tmp_path / "wide.tflite"))):  # noqa: B905
        np.testing.assert_array_equal(before, after)
    assert not tflite_source.widen(read_model(path))


def test_custom_operators_are_named(tmp_path: Path) -> None:
    path = write_add_relu(tmp_path / "m.tflite")
    model = flatbuffer_utils.read_model(str(path))
    model.operatorCodes[1].builtinCode = model.operatorCodes[1].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[1].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    model.operatorCodes[1].customCode = b"MyVoodoo"
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    with pytest.raises(UnsupportedError, match="MyVoodoo"):
        tflite_source.run(out=tmp_path / ".", progress=lambda *_: None, model=path, dataset={}, samples=1)
    done = edgekit("inspect", path, "-t", TARGET)
    assert "MyVoodoo" in done.out
    assert "refused" in done.out


@pytest.mark.slow
def test_an_onnx_file_that_is_quantized_already_passes_through(tmp_path: Path) -> None:
    """Its Q/DQ pairs reach the artifact untouched; only the batch gets its size."""
    weight = numpy_helper.from_array(np.random.default_rng(0).integers(-99, 99, (784, 10), np.int8), "w")
    scalars = [numpy_helper.from_array(np.array(v, d), n) for n, v, d in (("s", 0.01, np.float32), ("z", 0, np.int8))]
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("QuantizeLinear", ["flat", "s", "z"], ["q"], "quantize"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["x"], "dequantize"),
        helper.make_node("DequantizeLinear", ["w", "s", "z"], ["wf"], "weights"),
        helper.make_node("MatMul", ["x", "wf"], ["logits"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("image", TensorProto.FLOAT, ["n", 28, 28, 1])],
        [value("logits", TensorProto.FLOAT, ["n", 10])], [weight, *scalars],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, tmp_path / "q.onnx")
    folder = recipe_for(tmp_path / "q.onnx", tmp_path / "built", target="x86-64")
    (row,) = built(folder)["targets"][0]["variants"]
    assert row["precision"] == "int8"
    kept = onnx.load(folder / "out" / "artifacts" / "x86-64" / "int8.onnx")
    assert [node.op_type for node in kept.graph.node] == [node.op_type for node in nodes]
    assert TensorSpec("image", (1, 28, 28, 1), "float32").shape == tuple(
        dim.dim_value for dim in kept.graph.input[0].type.tensor_type.shape.dim
    )


def test_tensors_of_one_name_are_told_apart_and_old_codes_are_read(tmp_path: Path) -> None:
    path = write_add_relu(tmp_path / "m.tflite")
    model = read_model(path)
    for tensor in model.subgraphs[0].tensors:
        tensor.name = b"same"
    for code in model.operatorCodes:
        code.builtinCode = 0  # as converters wrote before 2021
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    np.savez(tmp_path / "x.npz", x=np.ones((4, 4), np.float32))
    preprocess = {"size": None, "color": "rgb", "mean": [0.0], "scale": [1.0]}
    dataset = {"kind": "npz", "path": tmp_path / "x.npz", "preprocess": preprocess}
    tflite_source.run(out=tmp_path, progress=lambda *_: None, model=path, dataset=dataset, samples=2)
    written = read_model(tmp_path / "model.tflite")
    assert [code.builtinCode for code in written.operatorCodes] == [
        schema.BuiltinOperator.ADD,
        schema.BuiltinOperator.RELU,
    ]
    found = [tensor.name for tensor in written.subgraphs[0].tensors]
    assert found == [b"same", b"same#1", b"same#2"]
    assert [tensor["name"] for tensor in open_model(tmp_path / "model.tflite", "tflite").outputs] == ["sum", "scores"]


def test_a_file_without_a_signature_gets_the_one_that_quantizers_look_for(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.ones((4, 4), np.float32))
    preprocess = {"size": None, "color": "rgb", "mean": [0.0], "scale": [1.0]}
    dataset = {"kind": "npz", "path": tmp_path / "x.npz", "preprocess": preprocess}
    plain = write_add_relu(tmp_path / "m.tflite", signature=False)
    tflite_source.run(out=tmp_path, progress=lambda *_: None, model=plain, dataset=dataset, samples=2)
    signed = Interpreter(model_path=str(tmp_path / "model.tflite"))
    assert signed.get_signature_list() == {"serving_default": {"inputs": ["t0"], "outputs": ["t1", "t2"]}}
    assert sorted(ranges_tflite(tmp_path / "model.tflite", [{"t0": np.ones((1, 4), np.float32)}])) == ["t0", "t1", "t2"]


@pytest.mark.parametrize("read_elsewhere", [False, True], ids=["alone", "read-elsewhere"])
def test_a_relu_goes_into_the_op_in_front_of_it(read_elsewhere: bool, tmp_path: Path) -> None:
    """Converters of others leave them apart, and XNNPACK has no int8 ReLU that stands alone."""
    source = write_add_relu(tmp_path / "m.tflite")
    if not read_elsewhere:  # the sum is no output any more
        model = read_model(source)
        model.subgraphs[0].outputs = [2]
        del model.signatureDefs[0].outputs[1]
        source.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    samples = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=samples)
    preprocess = {"size": None, "color": "rgb", "mean": [0.0], "scale": [1.0]}
    dataset = {"kind": "npz", "path": tmp_path / "x.npz", "preprocess": preprocess}
    facts = tflite_source.run(out=tmp_path, progress=lambda *_: None, model=source, dataset=dataset, samples=4)
    assert facts["parity_error"] == 0.0
    graph = read_model(tmp_path / "model.tflite").subgraphs[0]
    kept = [op.opcodeIndex for op in graph.operators]
    assert kept == ([0, 1] if read_elsewhere else [0])
    assert len(graph.tensors) == (3 if read_elsewhere else 2)
    found = ranges_tflite(tmp_path / "model.tflite", [{"image": samples[:1]}])  # asks every tensor for its values
    assert len(found) == len(graph.tensors)
