"""Equalization never changes what a network computes, and takes back what uneven channels cost int8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphs
import pytest
import tflite_graphs
from onnx import helper
from tflite_graphs import NONE, RELU, RELU6, TANH, Network

from edgekit.convert import onnx_quantized, tflite_quantized
from edgekit.errors import StageError
from edgekit.quantize.calibrate import observe
from edgekit.quantize.decide import decide
from edgekit.quantize.equalize import Equalized, equalize
from edgekit.quantize.equalize.rescale import channel_factors, unevenness
from edgekit.runtimes import litert, ort

Weights = dict[str, Any]
FORMATS = ["tflite", "onnx"]
RUNTIMES = {"tflite": litert.open_model, "onnx": ort.open_model}
# Producer, consumer: conv to depthwise, depthwise to conv, over a pool, flattened pictures, dense to dense.
CHAIN = [("w1", "dw"), ("dw", "w2"), ("w2", "w3"), ("w3", "f1"), ("f1", "f2"), ("f2", "f3")]


def healthy(seed: int = 0) -> Weights:
    """Weights as TFLite lays them out: (O, H, W, I), depthwise (1, H, W, C), dense (O, I)."""
    random = np.random.default_rng(seed)
    shapes = {
        **{"w1": (8, 3, 3, 3), "dw": (1, 3, 3, 8), "w2": (12, 1, 1, 8), "w3": (6, 3, 3, 12)},
        **{"f1": (10, 96), "f2": (12, 10), "f3": (4, 12)},
    }
    weights: Weights = {}
    for name, shape in shapes.items():
        fan_in = 9 if name == "dw" else np.prod(shape[1:])
        weights[name] = random.normal(0, np.sqrt(2 / fan_in), shape).astype(np.float32)
        channels = shape[-1] if name == "dw" else shape[0]
        weights[f"{name}_bias"] = random.uniform(0.05, 0.2, channels).astype(np.float32)
    return weights


def distorted(weights: Weights, seed: int = 1) -> Weights:
    """Multiply the channels between layers by 10 .. 1000, half of them, and undo it in the next layer."""
    random, found = np.random.default_rng(seed), dict(weights)
    for producer, consumer in CHAIN:
        channels = len(found[f"{producer}_bias"])
        factors = np.where(random.random(channels) < 0.5, 10 ** random.uniform(1, 3, channels), 1).astype(np.float32)
        along_last = factors if producer == "dw" else factors.reshape(-1, *[1] * (found[producer].ndim - 1))
        found[producer] = found[producer] * along_last
        found[f"{producer}_bias"] = found[f"{producer}_bias"] * factors
        found[consumer] = found[consumer] / np.tile(factors, found[consumer].shape[-1] // channels)
    return found


def tflite(weights: Weights, path: Path) -> Path:
    net = Network((1, 8, 8, 3))
    c = {name: net.constant(name, values) for name, values in weights.items()}
    x = net.conv(net.x, c["w1"], c["w1_bias"])
    x = net.conv(x, c["dw"], c["dw_bias"], depthwise=True)
    x = net.pool(net.conv(x, c["w2"], c["w2_bias"]))
    x = net.reshape(net.conv(x, c["w3"], c["w3_bias"]), (1, 96))
    x = net.dense(x, c["f1"], c["f1_bias"])
    x = net.dense(x, c["f2"], c["f2_bias"])
    return net.save(path, net.dense(x, c["f3"], c["f3_bias"], NONE))


def onnx(weights: Weights, path: Path) -> Path:
    constants = {name: v.transpose(0, 3, 1, 2) if v.ndim == 4 else v for name, v in weights.items()}
    constants["dw"] = weights["dw"].transpose(3, 0, 1, 2)
    constants["f1"] = weights["f1"].reshape(10, 4, 4, 6).transpose(0, 3, 1, 2).reshape(10, 96)
    constants["f2"], constants["f3"] = weights["f2"].T, weights["f3"].T
    nodes = [
        helper.make_node("Conv", ["x", "w1", "w1_bias"], ["c1"], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "dw", "dw_bias"], ["c2"], pads=[1] * 4, group=8),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "w2", "w2_bias"], ["c3"]),
        helper.make_node("Relu", ["c3"], ["r3"]),
        helper.make_node("MaxPool", ["r3"], ["p3"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p3", "w3", "w3_bias"], ["c4"], pads=[1] * 4),
        helper.make_node("Relu", ["c4"], ["r4"]),
        helper.make_node("Flatten", ["r4"], ["flat"]),
        helper.make_node("Gemm", ["flat", "f1", "f1_bias"], ["g1"], transB=1),
        helper.make_node("Relu", ["g1"], ["r5"]),
        helper.make_node("MatMul", ["r5", "f2"], ["m2"]),
        helper.make_node("Add", ["m2", "f2_bias"], ["a2"]),
        helper.make_node("Relu", ["a2"], ["r6"]),
        helper.make_node("Gemm", ["r6", "f3", "f3_bias"], ["y"]),
    ]
    proto = onnx_graphs.model(nodes, constants, {"x": [1, 3, 8, 8]}, {"y": [1, 4]})
    return onnx_graphs.save(proto, path.parent, path.name)


WRITERS: dict[str, Callable[[Weights, Path], Path]] = {"tflite": tflite, "onnx": onnx}


def samples(format: str, count: int = 24) -> list[dict[str, Any]]:
    random = np.random.default_rng(3)
    pictures = [random.uniform(0, 1, (1, 8, 8, 3)).astype(np.float32) for _ in range(count)]
    return [{"x": p.transpose(0, 3, 1, 2).copy() if format == "onnx" else p} for p in pictures]


def run(path: Path, format: str) -> Any:
    session = RUNTIMES[format](str(path), 1)
    return np.concatenate([np.concatenate(session.run([sample["x"]]), axis=-1) for sample in samples(format)])


def equalized(path: Path, format: str) -> tuple[Path, list[Equalized]]:
    content, done = equalize(path, format, observe(path, format, samples(format)))
    result = path.with_name(f"equalized_{path.name}")
    result.write_bytes(content)
    return result, done


def int8_error(path: Path, format: str, reference: Any) -> float:
    ranges = {name: (s.low, s.high) for name, s in observe(path, format, samples(format)).items()}
    plan = decide(path, format, "int8", ranges=ranges)
    assert plan.counts()["int8"] >= 7
    emit = {"tflite": tflite_quantized.emit, "onnx": lambda p, plan: onnx_quantized.emit(p.read_bytes(), plan)}
    quantized = path.with_name(f"int8_{path.name}")
    quantized.write_bytes(emit[format](path, plan))
    return float(np.sqrt(((run(quantized, format) - reference) ** 2).mean()))


def assert_same(path: Path, other: Path, format: str) -> None:
    expected, found = run(path, format), run(other, format)
    assert np.abs(expected - found).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("format", FORMATS)
def test_uneven_channels_cost_int8_nothing_any_more(format: str, tmp_path: Path) -> None:
    good = WRITERS[format](healthy(), tmp_path / f"good.{format}")
    bad = WRITERS[format](distorted(healthy()), tmp_path / f"bad.{format}")
    assert_same(good, bad, format)
    reference = run(good, format)
    level = int8_error(good, format, reference)
    assert int8_error(bad, format, reference) > 3 * level
    repaired, done = equalized(bad, format)
    assert_same(bad, repaired, format)
    assert int8_error(repaired, format, reference) < 1.5 * level
    assert len(done) == len(CHAIN)
    assert all(one.uneven_after < one.uneven_before for one in done)


@pytest.mark.parametrize("format", FORMATS)
def test_a_healthy_network_stays_healthy(format: str, tmp_path: Path) -> None:
    before, after = 0.0, 0.0
    for seed in range(4):
        good = WRITERS[format](healthy(seed), tmp_path / f"good.{format}")
        reference = run(good, format)
        found, done = equalized(good, format)
        assert_same(good, found, format)
        assert [one.channels for one in done] == [8, 8, 12, 6, 10, 12]
        before += int8_error(good, format, reference)
        after += int8_error(found, format, reference)
    # Of one network the error moves by a quarter either way, which is chance: 24 samples and 4 outputs.
    assert after < 1.15 * before


def test_what_was_equalized_is_said(tmp_path: Path) -> None:
    path = onnx(distorted(healthy()), tmp_path / "bad.onnx")
    before = observe(path, "onnx", samples("onnx"))
    found, done = equalized(path, "onnx")
    assert [(one.tensor, one.producer, one.consumer) for one in done] == [
        *[("r1", "c1", "c2"), ("r2", "c2", "c3"), ("r3", "c3", "c4"), ("r4", "c4", "g1")],
        *[("r5", "g1", "a2"), ("r6", "a2", "y")],
    ]
    after = observe(found, "onnx", samples("onnx"))
    for one in done:
        for statistics, said in ((before, one.uneven_before), (after, one.uneven_after)):
            reach = statistics[one.tensor].channel_high
            assert reach is not None
            assert unevenness(reach) == pytest.approx(said, rel=1e-4)
    # In front of a depthwise convolution every channel gets the range of the tensor.
    assert done[0].uneven_before > 5
    assert done[0].uneven_after == pytest.approx(1)


@pytest.mark.parametrize("format", FORMATS)
def test_only_weights_change_and_always_the_same_way(format: str, tmp_path: Path) -> None:
    path = WRITERS[format](distorted(healthy()), tmp_path / f"bad.{format}")
    first, _ = equalized(path, format)
    content = first.read_bytes()
    assert len(content) == path.stat().st_size
    assert equalized(path, format)[0].read_bytes() == content


def test_every_channel_reaches_the_range() -> None:
    reach = np.array([8.0, 0.5, 1e-3, 1e-9, 0.0])
    # 1e-3 is beyond the limit of 1000; the last two are dead.
    assert channel_factors(reach).tolist() == [1, 0.0625, 0.001, 1, 1]
    assert channel_factors(np.zeros(3)).tolist() == [1, 1, 1]


def test_reach_and_weight_are_balanced_where_weights_share_a_scale() -> None:
    reach, weight = np.array([8.0, 0.5, 8.0]), np.array([1.0, 1.0, 0.0])
    factors = channel_factors(reach, weight)
    assert (reach / factors).tolist() == [8, 2, 8]  # the root of the ratio; no weight at all: nothing to gain
    # A channel made 100 times larger is made as much smaller.
    scale = np.array([1.0, 100.0, 1.0])
    other = channel_factors(reach * scale, weight / scale)
    ratio = (reach * scale / other) / (reach / factors)
    assert ratio[0] == pytest.approx(ratio[1])


def test_weights_on_channels_that_never_fired_do_not_outweigh_the_others() -> None:
    reach, weight = np.array([1.0, 1e-3, 0.0]), np.array([1.0, 1000.0, 1000.0])
    factors = channel_factors(reach, weight)
    assert (weight * factors).tolist() == pytest.approx([1, 1, 1])
    assert channel_factors(reach, weight, cap=6.0)[2] == 1


def test_capped_channels_keep_headroom_and_saturated_ones_stay() -> None:
    factors = channel_factors(np.array([6.0, 5.5, 0.6, 3.0]), cap=6.0)
    assert factors.tolist() == pytest.approx([1, 1, 0.6 / 4.8, 3 / 4.8])


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("scale", [0.2, 20.0])
def test_relu6_cuts_where_it_did(format: str, scale: float, tmp_path: Path) -> None:
    weights = healthy()
    spread = np.geomspace(0.05, 1, 8).astype(np.float32) * scale
    weights["w1"] = weights["w1"] * spread.reshape(-1, 1, 1, 1)
    path = tmp_path / f"capped.{format}"
    if format == "tflite":
        net = Network((1, 8, 8, 3))
        c = {name: net.constant(name, weights[name]) for name in ("w1", "w1_bias", "w2", "w2_bias")}
        net.save(path, net.conv(net.conv(net.x, c["w1"], c["w1_bias"], RELU6), c["w2"], c["w2_bias"], NONE))
    else:
        constants = {name: weights[name].transpose(0, 3, 1, 2) for name in ("w1", "w2")}
        nodes = [
            helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1] * 4),
            helper.make_node("Clip", ["c1", "zero", "six"], ["r1"]),
            helper.make_node("Conv", ["r1", "w2"], ["y"]),
        ]
        limits = {"zero": np.float32(0), "six": np.float32(6)}
        shapes = ({"x": [1, 3, 8, 8]}, {"y": [1, 12, 8, 8]})
        onnx_graphs.save(onnx_graphs.model(nodes, {**constants, **limits}, *shapes), tmp_path, path.name)
    measured = observe(path, format, samples(format))
    saturated = sum(s.high == 6.0 for s in measured.values()) > 0
    assert saturated == (scale == 20.0)
    found, done = equalized(path, format)
    assert len(done) == 1
    assert_same(path, found, format)


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
