"""Which pairs of layers may be equalized, and which must not be touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphs
import pytest
import tflite_graphs
from equalizing import (
    FORMATS,
    assert_same,
    distorted,
    equalized,
    healthy,
    samples,
    tflite,
)
from onnx import helper
from tflite_graphs import NONE, RELU, TANH, Network

from edgekit.errors import StageError
from edgekit.quantize.calibrate import observe
from edgekit.quantize.equalize import equalize


def write_tflite(path: Path, change: str) -> Path:
    net = Network((1, 8, 8, 3))
    weights = distorted(healthy())
    c = {name: net.constant(name, weights[name]) for name in ("w1", "w1_bias", "w2", "w2_bias", "dw", "dw_bias")}
    act = {"fused tanh": TANH}.get(change, RELU)
    middle = net.conv(net.x, c["w1"], c["w1_bias"], act)
    if change == "softmax":
        middle = net.op("SOFTMAX", [middle], (1, 8, 8, 8), _softmax())
    last = net.conv(middle, c["w2"], c["w2_bias"], NONE)
    outputs = [net.pool(last)]
    if change == "read twice":
        outputs.append(net.conv(middle, c["dw"], c["dw_bias"], NONE, depthwise=True))
    elif change == "an output":
        outputs.append(middle)
    elif change in ("shared consumer", "shared buffer"):
        picture = net.conv(net.x, net.constant("v", healthy(2)["w1"]), c["w1_bias"], TANH)
        weight = c["w2"] if change == "shared consumer" else net.tensor("twin", (12, 1, 1, 8), _buffer(net, c["w2"]))
        outputs.append(net.conv(picture, weight, c["w2_bias"], NONE))
    elif change == "shared bias":
        outputs.append(net.conv(net.x, net.constant("v", healthy(2)["w1"]), c["w1_bias"], NONE))
    elif change == "pair":
        pass
    return net.save(path, *[net.reshape(one, (1, int(np.prod(net.graph.tensors[one].shape)))) for one in outputs])


def _buffer(net: Network, tensor: int) -> int:
    return int(net.graph.tensors[tensor].buffer)


def _softmax() -> Any:
    options = tflite_graphs.schema.SoftmaxOptionsT()
    options.beta = 1.0
    return options


UNTOUCHED = ["fused tanh", "softmax", "read twice", "an output", "shared consumer", "shared buffer", "shared bias"]


@pytest.mark.parametrize(("change", "pairs"), [("pair", 1), *((change, 0) for change in UNTOUCHED)])
def test_tflite_pairs_that_must_not_be_touched(change: str, pairs: int, tmp_path: Path) -> None:
    path = write_tflite(tmp_path / "model.tflite", change)
    found, done = equalized(path, "tflite")
    assert len(done) == pairs
    assert (found.read_bytes() == path.read_bytes()) == (not pairs)
    assert_same(path, found, "tflite")


# What stands between two convolutions, by what it does to the first one's output "c" and writes to "m".
BETWEEN: dict[str, tuple[list[Any], int]] = {
    "relu": ([helper.make_node("Relu", ["c"], ["m"])], 1),
    "leaky relu": ([helper.make_node("LeakyRelu", ["c"], ["m"], alpha=0.1)], 1),
    "identity": ([helper.make_node("Identity", ["c"], ["m"])], 1),
    "half a clip": ([helper.make_node("Clip", ["c", "zero"], ["m"])], 1),
    "average": ([helper.make_node("AveragePool", ["c"], ["m"], kernel_shape=[3, 3], pads=[1] * 4)], 1),
    "zeros around": ([helper.make_node("Pad", ["c", "around"], ["m"])], 1),
    "turned twice": (
        [
            helper.make_node("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
            helper.make_node("Relu", ["t"], ["u"]),
            helper.make_node("Transpose", ["u"], ["m"], perm=[0, 3, 1, 2]),
        ],
        0,  # the measured tensor has its channels elsewhere
    ),
    "sigmoid": ([helper.make_node("Sigmoid", ["c"], ["m"])], 0),
    "clip from -1": ([helper.make_node("Clip", ["c", "minus", "six"], ["m"])], 0),
    "ones around": ([helper.make_node("Pad", ["c", "around", "six"], ["m"])], 0),
    "turned": ([helper.make_node("Transpose", ["c"], ["m"], perm=[0, 2, 1, 3])], 0),
    "pooled over channels": (
        [
            helper.make_node("Transpose", ["c"], ["t"], perm=[0, 2, 1, 3]),
            helper.make_node("MaxPool", ["t"], ["u"], kernel_shape=[3, 3], pads=[1] * 4),
            helper.make_node("Transpose", ["u"], ["m"], perm=[0, 2, 1, 3]),
        ],
        0,
    ),
    "residual": (
        [helper.make_node("Relu", ["c"], ["r"]), helper.make_node("Add", ["r", "c"], ["m"])],
        0,
    ),
    "bias of every pixel": ([helper.make_node("Add", ["c", "pixels"], ["m"])], 0),
}


@pytest.mark.parametrize("between", BETWEEN)
def test_what_may_stand_between_onnx_layers(between: str, tmp_path: Path) -> None:
    nodes, pairs = BETWEEN[between]
    random = np.random.default_rng(0)
    uneven = np.geomspace(0.01, 10, 8).astype(np.float32).reshape(-1, 1, 1, 1)
    constants = {
        "w": random.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32) * uneven,
        "v": random.normal(0, 0.3, (4, 8, 1, 1)).astype(np.float32),
        "zero": np.float32(0),
        "minus": np.float32(-1),
        "six": np.float32(6),
        "around": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "pixels": random.normal(0, 1, (1, 1, 8, 8)).astype(np.float32),
    }
    ends = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4),
        *nodes,
        helper.make_node("Conv", ["m", "v"], ["y"]),
    ]
    size = 10 if "around" in between else 8
    proto = onnx_graphs.model(ends, constants, {"x": [1, 3, 8, 8]}, {"y": [1, 4, size, size]})
    path = onnx_graphs.save(proto, tmp_path)
    found, done = equalized(path, "onnx")
    assert len(done) == pairs
    assert (found.read_bytes() == path.read_bytes()) == (not pairs)
    assert_same(path, found, "onnx")


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("format", FORMATS)
def test_a_mean_over_the_picture_may_stand_between(format: str, keep: int, tmp_path: Path) -> None:
    weights = distorted(healthy())
    path = tmp_path / f"mean.{format}"
    shape = (1, 1, 1, 8) if keep else (1, 8)
    dense = healthy()["f2"][:, :8].copy()
    if format == "tflite":
        net = Network((1, 8, 8, 3))
        options = tflite_graphs.schema.ReducerOptionsT()
        options.keepDims = bool(keep)
        x = net.conv(net.x, net.constant("w", weights["w1"]), net.constant("b", weights["w1_bias"]))
        x = net.op("MEAN", [x, net.constant("axes", np.array([1, 2], np.int32))], shape, options)
        net.save(path, net.dense(x, net.constant("f", dense), net.constant("c", weights["f2_bias"]), NONE))
    else:
        constants = {"w": weights["w1"].transpose(0, 3, 1, 2), "axes": np.array([2, 3]), "f": dense}
        nodes = [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("ReduceMean", ["r", "axes"], ["m"], keepdims=keep),
            helper.make_node("Flatten", ["m"], ["flat"]),
            helper.make_node("Gemm", ["flat", "f"], ["y"], transB=1),
        ]
        proto = onnx_graphs.model(nodes, constants, {"x": [1, 3, 8, 8]}, {"y": [1, 12]})
        onnx_graphs.save(proto, tmp_path, path.name)
    found, done = equalized(path, format)
    assert len(done) == 1
    assert_same(path, found, format)


def test_grouped_convolutions_are_rescaled_group_by_group(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    constants = {
        "w": random.normal(0, 0.3, (8, 3, 1, 1)).astype(np.float32) * np.geomspace(0.01, 10, 8).reshape(-1, 1, 1, 1),
        "v": random.normal(0, 0.3, (12, 4, 1, 1)),
        "u": random.normal(0, 0.3, (2, 12, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Conv", ["a", "v"], ["b"], group=2),
        helper.make_node("Conv", ["b", "u"], ["y"]),
    ]
    floats = {name: values.astype(np.float32) for name, values in constants.items()}
    path = onnx_graphs.save(onnx_graphs.model(nodes, floats, {"x": [1, 3, 8, 8]}, {"y": [1, 2, 8, 8]}), tmp_path)
    found, done = equalized(path, "onnx")
    assert [one.tensor for one in done] == ["a", "b"]
    assert_same(path, found, "onnx")


def test_weights_read_inside_a_branch_are_left_alone(tmp_path: Path) -> None:
    """The branch adds the first convolution's output, which the main graph reads once only."""
    branch = [
        helper.make_graph(
            [helper.make_node(op, ["c", "c"], [f"{op}_out"])],
            op,
            [],
            [helper.make_tensor_value_info(f"{op}_out", 1, [1, 8, 8, 8])],
        )
        for op in ("Add", "Mul")
    ]
    weights = np.random.default_rng(0).normal(0, 0.3, (8, 3, 1, 1)).astype(np.float32)
    constants = {
        "w": weights * np.geomspace(0.01, 10, 8).astype(np.float32).reshape(-1, 1, 1, 1),
        "v": np.ones((4, 8, 1, 1), np.float32),
        "yes": np.array(True),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Conv", ["c", "v"], ["y"]),
        helper.make_node("If", ["yes"], ["z"], then_branch=branch[0], else_branch=branch[1]),
    ]
    shapes = {"y": [1, 4, 8, 8], "z": [1, 8, 8, 8]}
    path = onnx_graphs.save(onnx_graphs.model(nodes, constants, {"x": [1, 3, 8, 8]}, shapes), tmp_path)
    _, done = equalize(path, "onnx", observe(path, "onnx", samples("onnx")))
    assert done == []


@pytest.mark.parametrize(("gate", "pairs"), [(1.0, 1), (1e-7, 0)])
def test_a_bias_is_not_driven_out_of_int32(gate: float, pairs: int, tmp_path: Path) -> None:
    """The weights of a gate that hardly depends on its input are small; smaller ones would not hold its bias."""
    weights = distorted(healthy())
    net = Network((1, 8, 8, 3))
    first = net.conv(net.x, net.constant("w", weights["w1"]), net.constant("b", weights["w1_bias"]))
    kernel = weights["dw"].reshape(1, 3, 3, 8)[:, :1, :1] * np.float32(gate)
    last = net.conv(first, net.constant("v", kernel), net.constant("c", np.array([3.0], np.float32)), NONE)
    path = net.save(tmp_path / "gate.tflite", last)
    found, done = equalized(path, "tflite")
    assert len(done) == pairs
    assert_same(path, found, "tflite")


def test_statistics_of_another_model_are_refused(tmp_path: Path) -> None:
    path = tflite(healthy(), tmp_path / "model.tflite")
    with pytest.raises(StageError, match="not of model"):
        equalize(path, "tflite", {})
