"""Every rule: a model that breaks just it, and a model that does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from onnx import TensorProto, helper, numpy_helper

from edgekit.convert.lint import RULES, lint
from edgekit.errors import RecipeError


def qdq(**change: Any) -> onnx.ModelProto:
    """A convolution as TensorRT wants it: int8, symmetric, per-channel weights on axis 0, float bias."""
    zero = change.get("zero", np.int8(0))
    weight = change.get("weight", np.full((2, 2, 1, 1), -127, np.int8))
    scales = np.full(2, 0.01, np.float32)
    constants = {
        "scale": change.get("scale", np.float32(0.1)),
        "zero": zero,
        "weight": weight,
        "weight_scale": scales,
        "bias": np.zeros(2, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"], "q", axis=1),
        helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xd"], "dq", axis=1),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale"], ["wd"], "wdq", axis=change.get("axis", 0)),
        helper.make_node("Conv", ["xd", "wd", "bias"], ["y"], "conv"),
    ]
    nodes += change.get("nodes", [])
    constants |= change.get("constants", {})
    return build(nodes, constants, **change.get("graph", {}))


def build(nodes: list[Any], constants: dict[str, Any], **options: Any) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "lint",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, options.get("shape", [1, 2, 3, 3]))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2, 3, 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", options.get("opset", 18)), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def external() -> onnx.ModelProto:
    proto = qdq()
    tensor = proto.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")
    return proto


INT32 = {"b32": np.zeros(2, np.int32), "bs": np.full(2, 0.001, np.float32)}

BAD: dict[str, Callable[[], onnx.ModelProto]] = {
    "tensorrt_zero_points": lambda: qdq(zero=np.int8(3)),
    "tensorrt_int8_only": lambda: qdq(zero=np.uint8(0)),
    "tensorrt_no_int32_bias": lambda: qdq(
        nodes=[helper.make_node("DequantizeLinear", ["b32", "bs"], ["bd"], "bdq", axis=0)], constants=INT32
    ),
    "tensorrt_per_channel_weights": lambda: qdq(scale=np.full(2, 0.1, np.float32), zero=np.zeros(2, np.int8)),
    "tensorrt_no_integer_ops": lambda: qdq(
        nodes=[helper.make_node("DynamicQuantizeLinear", ["x"], ["a", "b", "c"], "dyn")]
    ),
    "tensorrt_float_softmax": lambda: qdq(
        nodes=[
            helper.make_node("Softmax", ["xd"], ["s"], "soft"),
            helper.make_node("QuantizeLinear", ["s", "scale", "zero"], ["sq"], "qs"),
        ]
    ),
    "tensorrt_8_reduce_axes": lambda: qdq(
        nodes=[helper.make_node("ReduceMean", ["xd", "axes"], ["m"], "mean")], constants={"axes": np.array([2, 3])}
    ),
    "tensorrt_weight_range": lambda: qdq(weight=np.full((2, 2, 1, 1), -128, np.int8)),
    "builtin_ops_only": lambda: qdq(
        nodes=[helper.make_node("FusedConv", ["x"], ["z"], "fused", domain="com.microsoft")]
    ),
    "static_shapes": lambda: qdq(graph={"shape": ["batch", 2, 3, 3]}),
    "no_external_data": external,
    "opset_min_13": lambda: qdq(graph={"opset": 11}),
    "opset_max": lambda: qdq(graph={"opset": 18}),
    "size_bytes": qdq,
}


def write(proto: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_every_onnx_rule_is_covered() -> None:
    assert {name for name, rule in RULES.items() if "onnx" in rule.checks} == set(BAD)


@pytest.mark.parametrize("rule", BAD)
def test_a_bad_onnx_file_breaks_its_rule(rule: str, tmp_path: Path) -> None:
    found = lint(write(BAD[rule](), tmp_path), "onnx", [rule], {"opset_max": 17, "size_bytes": 100})
    assert found
    assert {finding.rule for finding in found} == {rule}
    assert all(finding.where and finding.message for finding in found)


def test_an_operator_that_the_runtime_lacks_is_found(tmp_path: Path) -> None:
    found = lint(write(qdq(), tmp_path), "onnx", [], refuses=["Conv", "Gelu"])
    assert [(item.rule, item.severity, item.where) for item in found] == [("no_such_op", "error", "conv")]


def test_a_wrong_weight_axis_is_found(tmp_path: Path) -> None:
    found = lint(write(qdq(axis=1), tmp_path), "onnx", ["tensorrt_per_channel_weights"])
    assert [finding.where for finding in found] == ["wdq"]


def test_a_good_onnx_file_passes_every_rule(tmp_path: Path) -> None:
    assert lint(write(qdq(), tmp_path), "onnx", list(RULES), {"opset_max": 18, "size_bytes": 10_000}) == []


def tflite(
    kind: int = schema.TensorType.FLOAT32,
    builtin: int = schema.BuiltinOperator.RELU,
    signature: list[int] | None = None,
) -> bytes:
    """One op between one input and one output."""
    tensors = []
    for name in (b"x", b"y"):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, [1, 4], kind, 0
        tensor.shapeSignature = signature
        tensors.append(tensor)
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
    if builtin == schema.BuiltinOperator.CUSTOM:
        code.customCode = b"FlexErf"
    op = schema.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = 0, [0], [1]
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, [op], [0], [1]
    model = schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], [code]
    model.buffers = [schema.BufferT()]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


BAD_TFLITE: dict[str, Callable[[], bytes]] = {
    "tflite_float_io": lambda: tflite(kind=schema.TensorType.INT8),
    "builtin_ops_only": lambda: tflite(builtin=schema.BuiltinOperator.CUSTOM),
    "static_shapes": lambda: tflite(signature=[-1, 4]),
    "size_bytes": tflite,
}


def test_every_tflite_rule_is_covered() -> None:
    assert {name for name, rule in RULES.items() if "tflite" in rule.checks} == set(BAD_TFLITE)


@pytest.mark.parametrize("rule", BAD_TFLITE)
def test_a_bad_tflite_file_breaks_its_rule(rule: str, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(BAD_TFLITE[rule]())
    found = lint(path, "tflite", list(RULES), {"size_bytes": 10 if rule == "size_bytes" else 10_000})
    assert {finding.rule for finding in found} == {rule}


def test_a_good_tflite_file_passes_every_rule(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite())
    assert lint(path, "tflite", list(RULES)) == []


def test_token_ids_are_not_quantized_inputs(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(tflite(kind=schema.TensorType.INT32))
    assert lint(path, "tflite", ["tflite_float_io"]) == []


def test_an_unknown_rule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no_such_rule"):
        lint(write(qdq(), tmp_path), "onnx", ["no_such_rule"])
