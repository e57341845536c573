"""Networks with uneven channels in both formats, and what equalization makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphs
from onnx import helper
from tflite_graphs import NONE, Network

from edgekit.convert import onnx_quantized, tflite_quantized
from edgekit.quantize.calibrate import observe
from edgekit.quantize.decide import decide
from edgekit.quantize.equalize import Equalized, equalize
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
