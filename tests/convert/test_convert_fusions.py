"""The fused op computes what its parts did, and look-alikes are left alone."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgekit.convert.onnx_fusions import fuse_global_average, fuse_hard_sigmoid


def spelled_out(three: float = 3.0, six: float = 6.0, last: str = "Mul", tap: bool = False) -> onnx.ModelProto:
    divisor = 1 / 6 if last == "Mul" else 6.0
    constants = {"three": three, "zero": 0.0, "six": six, "scale": divisor}
    nodes = [
        helper.make_node("Add", ["x", "three"], ["sum"]),
        helper.make_node("Clip", ["sum", "zero", "six"], ["cut"]),
        helper.make_node(last, ["cut", "scale"], ["gate"]),
        helper.make_node("Mul", ["x", "gate"], ["y"]),
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 64]) for name in ("y", *(["sum"] if tap else []))
    ]
    graph = helper.make_graph(
        nodes, "swish", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 64])], outputs,
        [numpy_helper.from_array(np.float32(value), name) for name, value in constants.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def run(proto: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(["y"], {"x": np.linspace(-8, 8, 64, dtype=np.float32)[None]})[0]
    return result


@pytest.mark.parametrize("last", ["Mul", "Div"])
def test_hard_swish_becomes_two_ops_with_the_same_values(last: str) -> None:
    proto = spelled_out(last=last)
    before = run(proto)
    assert fuse_hard_sigmoid(proto) == 1
    assert [node.op_type for node in proto.graph.node] == ["HardSigmoid", "Mul"]
    assert len(proto.graph.initializer) == 0
    onnx.checker.check_model(proto, full_check=True)
    assert run(proto) == pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize("options", [{"three": 2.0}, {"six": 5.0}, {"tap": True}])
def test_what_only_looks_like_it_stays(options: dict[str, float]) -> None:
    proto = spelled_out(**options)  # type: ignore[arg-type]
    assert fuse_hard_sigmoid(proto) == 0
    assert len(proto.graph.node) == 4


def averaged(axes: list[int], keepdims: int = 1) -> onnx.ModelProto:
    shape = [1, 8, 5, 7]
    kept = [1 if axis in [other % 4 for other in axes] else size for axis, size in enumerate(shape)]
    made = kept if keepdims else [size for axis, size in enumerate(shape) if axis not in axes]
    node = helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=keepdims)
    graph = helper.make_graph(
        [node], "mean", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, made)],
        [numpy_helper.from_array(np.array(axes), "axes")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_a_mean_over_the_image_becomes_a_pooling_with_the_same_values(axes: list[int]) -> None:
    proto = averaged(axes)
    sample = {"x": np.random.default_rng(0).normal(size=(1, 8, 5, 7)).astype(np.float32)}
    before = ort.InferenceSession(proto.SerializeToString()).run(["y"], sample)[0]
    assert fuse_global_average(proto) == 1
    assert [node.op_type for node in proto.graph.node] == ["GlobalAveragePool"]
    onnx.checker.check_model(proto, full_check=True)
    after = ort.InferenceSession(proto.SerializeToString()).run(["y"], sample)[0]
    assert after.shape == before.shape
    assert after == pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize(("axes", "keepdims"), [([1, 2], 1), ([2], 1), ([2, 3], 0)])
def test_other_means_stay(axes: list[int], keepdims: int) -> None:
    assert fuse_global_average(averaged(axes, keepdims)) == 0
