"""ONNX networks as PyTorch exports them, a few nodes each: channels first, random weights, names of the exporter."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Shapes = Mapping[str, tuple[int, ...]]


class Network:
    """Nodes are added one by one; each call returns the name of what it puts out."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any, dtype: npt.DTypeLike = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weights(self, *shape: int) -> str:
        return self.constant(self.random.normal(size=shape) * 0.2)

    def sizes(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def op(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        name = out or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], f"/{kind}_{len(self.nodes)}", **attributes))
        return name

    def split(self, source: str, axis: int, *sizes: int) -> list[str]:
        names = [f"split_{len(self.nodes)}_{part}" for part in range(len(sizes))]
        self.nodes.append(helper.make_node("Split", [source, self.sizes(*sizes)], names, axis=axis))
        return names

    def conv(self, source: str, before: int, after: int, kernel: int = 3, out: str = "", **attributes: Any) -> str:
        weight = self.weights(after, before // attributes.get("group", 1), kernel, kernel)
        return self.op("Conv", source, weight, self.weights(after), out=out, pads=[kernel // 2] * 4, **attributes)

    def linear(self, source: str, before: int, after: int, out: str = "") -> str:
        return self.op("Gemm", source, self.weights(before, after), self.weights(after), out=out)

    def dense(self, source: str, before: int, after: int) -> str:
        product = self.op("MatMul", source, self.weights(before, after))
        return self.op("Add", product, self.weights(after))

    def save(self, path: Path, inputs: Shapes, outputs: Shapes, integers: tuple[str, ...] = ()) -> Path:
        def values(shapes: Shapes) -> list[onnx.ValueInfoProto]:
            kinds = {name: TensorProto.INT64 if name in integers else TensorProto.FLOAT for name in shapes}
            return [helper.make_tensor_value_info(name, kinds[name], list(shape)) for name, shape in shapes.items()]

        graph = helper.make_graph(self.nodes, "network", values(inputs), values(outputs), self.constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.checker.check_model(proto)
        onnx.save(proto, path)
        return path


def classifier(path: Path) -> Path:
    """Write strided, depthwise and pointwise convolutions with a skip, and two heads."""
    made = Network()
    first = made.op("Relu", made.conv("image", 3, 16, strides=[2, 2]))
    second = made.conv(made.conv(first, 16, 16, group=16), 16, 16, kernel=1)
    features = made.op("Add", first, second, out="features")
    pooled = made.op("Flatten", made.op("GlobalAveragePool", features))
    made.linear(pooled, 16, 10, out="classes")
    return made.save(path, {"image": (1, 3, 32, 48)}, {"features": (1, 16, 16, 24), "classes": (1, 10)})


def segmenter(path: Path) -> Path:
    """Write an encoder, a decoder and a skip; its map is what the converter leaves channels last."""
    made = Network()
    fine = made.op("Relu", made.conv("image", 3, 8))
    coarse = made.op("Relu", made.conv(fine, 8, 16, strides=[2, 2]))
    scales = made.constant([1, 1, 2, 2])
    up = made.op("Resize", coarse, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")
    made.conv(made.op("Concat", up, fine, axis=1), 24, 5, out="mask")
    return made.save(path, {"image": (1, 3, 32, 48)}, {"mask": (1, 5, 32, 48)})


def image_and_numbers(path: Path) -> Path:
    """Write a network of two inputs; its outputs stand in another order than the alphabet's."""
    made = Network()
    seen = made.op("GlobalAveragePool", made.op("Relu", made.conv("picture", 3, 8, strides=[2, 2])))
    joined = made.op("Concat", made.op("Flatten", seen), "age", axis=1)
    made.linear(joined, 10, 4, out="z_first")
    made.op("Sigmoid", made.linear(joined, 10, 3), out="a_second")
    return made.save(path, {"picture": (1, 3, 32, 48), "age": (1, 2)}, {"z_first": (1, 4), "a_second": (1, 3)})


def encoder(path: Path) -> Path:
    """Write one transformer layer, whose input no one may transpose: 16 tokens of 32 numbers."""
    made = Network()
    wide = 32

    def heads(source: str, order: tuple[int, ...]) -> str:
        split = made.op("Reshape", made.dense(source, wide, wide), made.sizes(1, 16, 4, 8))
        return made.op("Transpose", split, perm=order)

    query, key, value = (heads("tokens", order) for order in ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)))
    weights = made.op("Softmax", made.op("Mul", made.op("MatMul", query, key), made.constant(8**-0.5)), axis=-1)
    mixed = made.op("Transpose", made.op("MatMul", weights, value), perm=(0, 2, 1, 3))
    mixed = made.dense(made.op("Reshape", mixed, made.sizes(1, 16, wide)), wide, wide)
    ones, zeros = made.constant(np.ones(wide)), made.constant(np.zeros(wide))
    made.op("LayerNormalization", made.op("Add", mixed, "tokens"), ones, zeros, out="encoded", axis=-1)
    return made.save(path, {"tokens": (1, 16, wide)}, {"encoded": (1, 16, wide)})


def recurrent(path: Path) -> Path:
    """Write an LSTM over 12 steps: a runtime that keeps its state gives another answer to the second sample."""
    made, size = Network(), 16
    steps = made.op("Transpose", "wave", perm=(1, 0, 2))
    weights = (made.weights(1, 4 * size, 8), made.weights(1, 4 * size, size), made.weights(1, 8 * size))
    states = made.op("Squeeze", made.op("LSTM", steps, *weights, hidden_size=size), made.sizes(1))
    last = made.op("Gather", states, made.constant(-1, np.int64), axis=0)
    made.linear(last, size, 3, out="word")
    return made.save(path, {"wave": (1, 12, 8)}, {"word": (1, 3)})


def yolo(path: Path) -> Path:
    """Write slices into a deeper image, SiLU, a split, wide pooling and one output of boxes and scores."""
    made = Network()
    last = 1 << 30
    parts = [
        made.op("Slice", "images", made.sizes(i, j), made.sizes(last, last), made.sizes(2, 3), made.sizes(2, 2))
        for i in (0, 1)
        for j in (0, 1)
    ]
    deep = made.conv(made.op("Concat", *parts, axis=1), 12, 16, strides=[2, 2])
    deep = made.op("Mul", deep, made.op("Sigmoid", deep))
    one, other = made.split(deep, 1, 8, 8)
    pooled = made.op("MaxPool", made.op("Concat", other, one, axis=1), kernel_shape=[5, 5], pads=[2] * 4)
    rows = made.op("Reshape", made.conv(pooled, 16, 9, kernel=1), made.sizes(1, 9, -1))
    boxes, scores = made.split(rows, 1, 4, 5)
    made.op("Concat", boxes, made.op("Sigmoid", scores), out="output0", axis=1)
    return made.save(path, {"images": (1, 3, 64, 96)}, {"output0": (1, 9, 384)})


def channels_last(path: Path) -> Path:
    """Write what TensorFlow's exporter does: an image (N, H, W, C), and a Transpose before the first convolution."""
    made = Network()
    seen = made.op("Relu", made.conv(made.op("Transpose", "image", perm=(0, 3, 1, 2)), 3, 8, strides=[2, 2]))
    made.op("Transpose", seen, out="map", perm=(0, 2, 3, 1))
    return made.save(path, {"image": (1, 32, 48, 3)}, {"map": (1, 16, 24, 8)})


def embedding(path: Path) -> Path:
    """Write a network of token numbers."""
    made = Network()
    found = made.op("Gather", made.weights(50, 16), "ids")
    made.linear(made.op("ReduceMean", found, made.sizes(1), keepdims=0), 16, 3, out="topic")
    return made.save(path, {"ids": (1, 12)}, {"topic": (1, 3)}, integers=("ids",))


def one_op(path: Path, kind: str, shape: tuple[int, ...] = (1, 3, 8, 8), **attributes: Any) -> Path:
    """Write a network of one op between two convolutions."""
    made = Network()
    made.conv(made.op(kind, made.conv("image", 3, 3), **attributes), 3, 3, out="found")
    return made.save(path, {"image": shape}, {"found": shape})
