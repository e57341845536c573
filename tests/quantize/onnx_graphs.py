"""Tiny float ONNX graphs, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def model(
    nodes: list[Any], constants: dict[str, Any], inputs: dict[str, Any], outputs: dict[str, Any]
) -> onnx.ModelProto:
    """Build and check a model; ``inputs`` and ``outputs`` map names to float32 shapes."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def detector(spread: float = 1.0) -> onnx.ModelProto:
    """Input scaling, two convolutions with a residual and a pool, then boxes in pixels beside scores."""
    random = np.random.default_rng(0)

    def weights(*shape: int) -> Any:
        return random.normal(0, spread / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)

    constants = {
        "mean": np.full((1, 3, 1, 1), 0.5, np.float32),
        "w1": weights(8, 3, 3, 3),
        "b1": weights(8),
        "w2": weights(8, 8, 3, 3),
        "b2": weights(8),
        "w3": weights(4, 8, 1, 1),
        "w4": weights(2, 8, 1, 1),
        "pixels": np.float32(64.0),
    }
    nodes = [
        helper.make_node("Sub", ["image", "mean"], ["centred"]),
        helper.make_node("Conv", ["centred", "w1", "b1"], ["c1"], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1] * 4),
        helper.make_node("Add", ["c2", "r1"], ["sum"]),
        helper.make_node("Relu", ["sum"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["pooled", "w3"], ["box_map"]),
        helper.make_node("Conv", ["pooled", "w4"], ["score_map"]),
        helper.make_node("Mul", ["box_map", "pixels"], ["boxes"]),
        helper.make_node("Sigmoid", ["score_map"], ["scores"]),
        helper.make_node("Concat", ["boxes", "scores"], ["detections"], axis=1),
    ]
    return model(nodes, constants, {"image": [1, 3, 8, 8]}, {"detections": [1, 6, 4, 4]})


def gated(gate_is_output: bool = False) -> onnx.ModelProto:
    """A convolution, hard-swish spelled with HardSigmoid, a squeeze-excite gate, and another convolution."""
    random = np.random.default_rng(0)
    constants = {
        "w1": random.normal(0, 1.5, (8, 3, 3, 3)).astype(np.float32),
        "ws": random.normal(0, 1, (8, 8, 1, 1)).astype(np.float32),
        "w2": random.normal(0, 0.3, (4, 8, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], pads=[1] * 4),
        helper.make_node("HardSigmoid", ["c1"], ["g1"], alpha=1 / 6, beta=0.5),
        helper.make_node("Mul", ["c1", "g1"], ["swish"]),
        helper.make_node("GlobalAveragePool", ["swish"], ["mean"]),
        helper.make_node("Conv", ["mean", "ws"], ["cs"]),
        helper.make_node("HardSigmoid", ["cs"], ["g2"]),
        helper.make_node("Mul", ["swish", "g2"], ["excited"]),
        helper.make_node("Conv", ["excited", "w2"], ["y"]),
    ]
    outputs = {"y": [1, 4, 8, 8]} | ({"g1": [1, 8, 8, 8]} if gate_is_output else {})
    return model(nodes, constants, {"image": [1, 3, 8, 8]}, outputs)


def attention(patches: bool = False) -> onnx.ModelProto:
    """One attention head: three projections, softmax of a product of activations; ``patches``: behind a Conv."""
    random = np.random.default_rng(0)
    constants = {name: random.normal(0, 0.3, (6, 6)).astype(np.float32) for name in ("wq", "wk", "wv", "wo")}
    nodes = [
        helper.make_node("MatMul", ["x", "wq"], ["q"]),
        helper.make_node("MatMul", ["x", "wk"], ["k"]),
        helper.make_node("MatMul", ["x", "wv"], ["v"]),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["products"]),
        helper.make_node("Softmax", ["products"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "v"], ["mixed"]),
        helper.make_node("MatMul", ["mixed", "wo"], ["y"]),
    ]
    if not patches:
        return model(nodes, constants, {"x": [1, 5, 6]}, {"y": [1, 5, 6]})
    constants |= {"wp": random.normal(0, 0.3, (6, 2, 1, 1)).astype(np.float32), "tokens": np.array([1, 6, 5])}
    front = [
        helper.make_node("Conv", ["image", "wp"], ["patches"]),
        helper.make_node("Reshape", ["patches", "tokens"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["x"], perm=[0, 2, 1]),
    ]
    return model([*front, *nodes], constants, {"image": [1, 2, 1, 5]}, {"y": [1, 5, 6]})


def embedding() -> onnx.ModelProto:
    """Look up rows of a table whose values lie in -2..3, then one product with weights."""
    random = np.random.default_rng(0)
    table = random.uniform(-2, 3, (40, 8)).astype(np.float32)
    table[0, 0], table[1, 1] = -2.0, 3.0
    constants = {"table": table, "w": random.normal(0, 0.3, (8, 4)).astype(np.float32)}
    nodes = [
        helper.make_node("Cast", ["x"], ["ids"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["y"]),
    ]
    return model(nodes, constants, {"x": [1, 5]}, {"y": [1, 5, 4]})


def softmax_between() -> onnx.ModelProto:
    """A softmax gate in the middle of a convolutional network."""
    random = np.random.default_rng(0)
    constants = {name: random.normal(0, 0.3, (4, 4, 1, 1)).astype(np.float32) for name in ("w1", "w2")}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"]),
        helper.make_node("Softmax", ["c1"], ["s"], axis=1),
        helper.make_node("Conv", ["s", "w2"], ["y"]),
    ]
    return model(nodes, constants, {"x": [1, 4, 3, 3]}, {"y": [1, 4, 3, 3]})


def save(proto: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    onnx.save(proto, str(path))
    return path


def samples(proto: onnx.ModelProto, count: int = 6) -> list[dict[str, Any]]:
    random = np.random.default_rng(3)
    value = proto.graph.input[0]
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    return [{value.name: random.uniform(0, 1, shape).astype(np.float32)} for _ in range(count)]
