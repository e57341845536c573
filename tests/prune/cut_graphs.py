"""Small ONNX networks as PyTorch exports them (NCHW), one for each way in which channels meet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekit.convert.onnx_file import from_onnx
from edgekit.prune.onnx.network import Network, read

SIZE = 12


class Graph:
    """A network under construction; every method adds one operator and returns its output's name."""

    def __init__(self, seed: int = 0) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.random = np.random.default_rng(seed)

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def sizes(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def weight(self, *shape: int) -> str:
        scale = np.sqrt(2.0 / max(np.prod(shape[1:]), 1))
        return self.constant(self.random.standard_normal(shape) * scale)

    def op(self, kind: str, *inputs: str, name: str = "", outputs: int = 1, **attributes: Any) -> Any:
        name = name or f"{kind.lower()}_{len(self.nodes)}"
        made = [name] if outputs == 1 else [f"{name}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, made, name, **attributes))
        return made[0] if outputs == 1 else made

    def conv(self, source: str, into: int, out: int, name: str, kernel: int = 3, group: int = 1, **more: Any) -> str:
        pads = [kernel // 2] * 4
        weights = [self.weight(out, into // group, kernel, kernel), self.constant(self.random.standard_normal(out) / 9)]
        return self.op("Conv", source, *weights, name=name, pads=pads, group=group, **more)

    def block(self, source: str, into: int, out: int, name: str, **more: Any) -> str:
        return self.op("Relu", self.conv(source, into, out, name, **more))

    def dense(self, source: str, into: int, out: int, name: str) -> str:
        bias = self.constant(self.random.standard_normal(out) / 9)
        return self.op("Gemm", source, self.weight(out, into), bias, name=name, transB=1)

    def model(self, *outputs: str, image: tuple[int, ...] = (1, 3, SIZE, SIZE), opset: int = 18) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes, "network",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, image)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.constants,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        return onnx.shape_inference.infer_shapes(model)


def pooled(graph: Graph, source: str, into: int, classes: int = 5) -> str:
    """End in a classifier: global average, Flatten, Gemm."""
    flat = graph.op("Flatten", graph.op("GlobalAveragePool", source))
    return graph.dense(flat, into, classes, "classes")


def chain(g: Graph) -> onnx.ModelProto:
    x = g.block("image", 3, 16, "first")
    x = g.block(x, 16, 24, "second", strides=[2, 2])
    return g.model(pooled(g, x, 24))


def residual(g: Graph) -> onnx.ModelProto:
    x = g.block("image", 3, 16, "stem")
    for number in range(2):
        y = g.conv(g.block(x, 16, 12, f"inner_{number}"), 12, 16, f"outer_{number}")
        x = g.op("Relu", g.op("Add", y, x))
    y = g.conv(g.block(x, 16, 24, "inner_2", strides=[2, 2]), 24, 32, "outer_2")
    x = g.op("Relu", g.op("Add", y, g.conv(x, 16, 32, "shortcut", kernel=1, strides=[2, 2])))
    return g.model(pooled(g, x, 32))


def depthwise(g: Graph) -> onnx.ModelProto:
    x = g.op("Clip", g.conv("image", 3, 16, "stem"), g.constant(0.0), g.constant(6.0))
    y = g.op("HardSwish", g.conv(x, 16, 48, "expand", kernel=1))
    y = g.op("HardSwish", g.conv(y, 48, 48, "depthwise", group=48))
    x = g.op("Add", g.conv(y, 48, 16, "project", kernel=1), x)
    return g.model(pooled(g, g.block(x, 16, 32, "last", kernel=1), 32))


def multiplied(g: Graph) -> onnx.ModelProto:
    x = g.block("image", 3, 12, "stem")
    x = g.conv(x, 12, 24, "twice", group=12)
    return g.model(pooled(g, g.block(x, 24, 16, "last"), 16))


def squeeze_excite(g: Graph) -> onnx.ModelProto:
    x = g.block("image", 3, 24, "stem")
    s = g.op("ReduceMean", x, g.sizes(2, 3), keepdims=1)
    s = g.op("HardSigmoid", g.conv(g.block(s, 24, 12, "squeeze", kernel=1), 12, 24, "excite", kernel=1))
    x = g.op("Mul", x, s)
    flat = g.op("Flatten", g.op("GlobalAveragePool", x))
    s = g.op("Sigmoid", g.dense(g.op("Relu", g.dense(flat, 24, 10, "squeeze_2")), 10, 24, "excite_2"))
    x = g.op("Mul", x, g.op("Reshape", s, g.sizes(1, 24, 1, 1)))
    return g.model(pooled(g, x, 24))


def branches(g: Graph) -> onnx.ModelProto:
    x = g.block("image", 3, 16, "stem")
    left, right = g.block(x, 16, 12, "left", kernel=1), g.block(x, 16, 20, "right")
    x = g.block(g.op("Concat", left, right, x, axis=1), 48, 24, "joined")
    return g.model(pooled(g, x, 24), g.conv(x, 24, 4, "map"))


def flattened(g: Graph) -> onnx.ModelProto:
    x = g.op("MaxPool", g.block("image", 3, 12, "first"), kernel_shape=[4, 4], strides=[4, 4])
    x = g.op("Relu", g.dense(g.op("Flatten", x), 108, 20, "hidden"))
    return g.model(g.dense(x, 20, 5, "classes"))


def split_and_sliced(g: Graph) -> onnx.ModelProto:
    x = g.block("image", 3, 24, "stem")
    one, other = g.op("Split", x, g.sizes(8, 16), axis=1, outputs=2)
    part = g.op("Slice", x, g.sizes(4), g.sizes(20), g.sizes(1), g.sizes(1))
    x = g.op("Concat", g.block(one, 8, 12, "one"), other, g.block(part, 16, 12, "part"), axis=1)
    return g.model(pooled(g, x, 40))


def halves(g: Graph) -> onnx.ModelProto:
    """A gated unit whose Split names no sizes."""
    one, other = g.op("Split", g.conv("image", 3, 32, "both"), axis=1, num_outputs=2, outputs=2)
    x = g.op("Mul", one, g.op("Sigmoid", other))
    return g.model(pooled(g, x, 16))


def shuffled(g: Graph) -> onnx.ModelProto:
    x = g.block("image", 3, 24, "stem")
    x = g.op("Reshape", x, g.sizes(0, 3, 8, SIZE, SIZE))
    x = g.op("Reshape", g.op("Transpose", x, perm=[0, 2, 1, 3, 4]), g.sizes(1, -1, SIZE, SIZE))
    return g.model(pooled(g, g.block(x, 24, 16, "last"), 16))


def grouped(g: Graph) -> onnx.ModelProto:
    x = g.block("image", 3, 32, "stem")
    x = g.block(x, 32, 32, "wide_groups", group=2)
    x = g.block(x, 32, 32, "small_groups", group=8)
    return g.model(pooled(g, g.block(x, 32, 16, "last", kernel=1), 16))


def upsampled(g: Graph) -> onnx.ModelProto:
    x = g.block("image", 3, 16, "stem")
    down = g.block(x, 16, 24, "down", strides=[2, 2])
    up = g.op("Resize", down, "", "", g.sizes(1, 24, SIZE, SIZE), mode="nearest")
    kernel = g.weight(24, 12, 2, 2)
    wide = g.op("ConvTranspose", down, kernel, g.constant(np.ones(12)), name="transposed", strides=[2, 2])
    deep = g.op("DepthToSpace", g.block(down, 24, 32, "deep"), blocksize=2, mode="CRD")
    x = g.op("Concat", up, wide, deep, x, axis=1)
    return g.model(g.conv(x, 60, 3, "map"))


def rearranged(g: Graph) -> onnx.ModelProto:
    x = g.op("SpaceToDepth", g.block("image", 3, 8, "stem"), blocksize=2)
    x = g.op("DepthToSpace", g.block(x, 32, 32, "deep"), blocksize=2, mode="DCR")
    x = g.op("Pad", x, g.sizes(0, 0, 1, 1, 0, 0, 1, 1), g.constant(0.0))
    return g.model(pooled(g, g.block(x, 8, 16, "last"), 16))


def padded_shortcut(g: Graph) -> onnx.ModelProto:
    x = g.block("image", 3, 12, "stem")
    wide = g.op("Pad", x, g.sizes(0, 2, 0, 0, 0, 2, 0, 0), g.constant(0.0))
    return g.model(pooled(g, g.op("Add", g.conv(x, 12, 16, "wide"), wide), 16))


def normalized(g: Graph) -> onnx.ModelProto:
    x = g.conv("image", 3, 16, "stem")
    ones = g.constant(g.random.uniform(0.5, 1.5, 16))
    x = g.op("InstanceNormalization", x, ones, g.constant(np.zeros(16)))
    x = g.op("PRelu", x, g.constant(g.random.uniform(0.1, 0.3, (16, 1, 1))))
    x = g.conv(x, 16, 32, "grouped")
    scale = g.constant(np.ones(4))
    y = g.op("InstanceNormalization", g.op("Reshape", x, g.sizes(0, 4, -1)), scale, g.constant(np.zeros(4)))
    y = g.op("Reshape", y, g.sizes(1, 32, SIZE, SIZE))
    y = g.op("Mul", y, g.constant(g.random.uniform(0.5, 1.5, (32, 1, 1))))
    return g.model(pooled(g, g.op("Relu", y), 32))


def transformer(g: Graph) -> onnx.ModelProto:
    """Patches, one block of attention and one of MLP with LayerNorm, a classifier: only inner widths may go."""
    x = g.conv("image", 3, 32, "patches", kernel=4, strides=[4, 4])
    x = g.op("Transpose", g.op("Reshape", x, g.sizes(1, 32, -1)), perm=[0, 2, 1])
    tokens = 16
    y = g.op("LayerNormalization", x, g.constant(np.ones(32)), g.constant(np.zeros(32)), axis=-1)

    def heads(name: str, order: list[int]) -> str:
        product = g.op("MatMul", y, g.weight(32, 32), name=name)
        made = g.op("Add", product, g.constant(g.random.standard_normal(32)))
        return g.op("Transpose", g.op("Reshape", made, g.sizes(1, tokens, 4, 8)), perm=order)

    scores = g.op("MatMul", heads("query", [0, 2, 1, 3]), heads("key", [0, 2, 3, 1]))
    weights = g.op("Softmax", g.op("Mul", scores, g.constant(0.35)), axis=-1)
    mixed = g.op("Transpose", g.op("MatMul", weights, heads("value", [0, 2, 1, 3])), perm=[0, 2, 1, 3])
    mixed = g.op("MatMul", g.op("Reshape", mixed, g.sizes(1, tokens, 32)), g.weight(32, 32), name="attended")
    x = g.op("Add", x, mixed)
    y = g.op("LayerNormalization", x, g.constant(np.ones(32)), g.constant(np.zeros(32)), axis=-1)
    hidden = g.op("Add", g.op("MatMul", y, g.weight(32, 64), name="hidden"), g.constant(np.ones(64)))
    half = g.op("Mul", hidden, g.constant(0.5))
    erf = g.op("Erf", g.op("Div", hidden, g.constant(1.4142)))
    gelu = g.op("Mul", half, g.op("Add", erf, g.constant(1.0)))
    x = g.op("Add", x, g.op("MatMul", gelu, g.weight(64, 32), name="mlp"))
    return g.model(g.dense(g.op("ReduceMean", x, g.sizes(1), keepdims=0), 32, 5, "classes"))


def shared_head(g: Graph) -> onnx.ModelProto:
    x = g.block("image", 3, 16, "stem")
    levels = [x, g.block(x, 16, 16, "down", strides=[2, 2])]
    kernel, bias = g.weight(20, 16, 3, 3), g.constant(np.zeros(20))
    last = g.weight(6, 20, 1, 1)
    found = []
    for number, level in enumerate(levels):
        y = g.op("Relu", g.op("Conv", level, kernel, bias, name=f"head_{number}", pads=[1, 1, 1, 1]))
        y = g.op("Conv", y, last, name=f"boxes_{number}")
        y = g.op("Reshape", g.op("Transpose", y, perm=[0, 2, 3, 1]), g.sizes(1, -1, 3))
        found.append(y)
    return g.model(g.op("Concat", *found, axis=1))


def channels_last(g: Graph) -> onnx.ModelProto:
    """An image that comes in NHWC, as networks converted from TensorFlow take it."""
    x = g.block(g.op("Transpose", "image", perm=[0, 3, 1, 2]), 3, 16, "first")
    x = g.op("Transpose", g.block(x, 16, 24, "second"), perm=[0, 2, 3, 1])
    x = g.op("ReduceMean", g.op("Add", x, g.constant(g.random.standard_normal(24))), g.sizes(1, 2), keepdims=0)
    return g.model(g.op("MatMul", x, g.weight(24, 5), name="classes"), image=(1, SIZE, SIZE, 3))


def sequence(g: Graph) -> onnx.ModelProto:
    """One-dimensional convolutions."""
    weights = [g.weight(16, 3, 5), g.weight(24, 16, 3)]
    x = g.op("Relu", g.op("Conv", "image", weights[0], name="first", pads=[2, 2]))
    x = g.op("Relu", g.op("Conv", x, weights[1], name="second", pads=[1, 1]))
    return g.model(g.dense(g.op("Squeeze", g.op("GlobalMaxPool", x), g.sizes(2)), 24, 4, "classes"), image=(1, 3, 40))


GRAPHS: dict[str, Callable[[Graph], onnx.ModelProto]] = {
    build.__name__: build
    for build in (
        chain, residual, depthwise, multiplied, squeeze_excite, branches, flattened, split_and_sliced, halves, shuffled,
        grouped, upsampled, rearranged, padded_shortcut, normalized, transformer, shared_head, channels_last, sequence,
    )
}  # fmt: skip


def network(name: str, folder: Path) -> Network:
    """Build one of GRAPHS and read it back as the prune stage does."""
    path = folder / f"{name}.onnx"
    onnx.save(GRAPHS[name](Graph()), path)
    return read(from_onnx(path))


def samples(found: Network, count: int = 4, seed: int = 1) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {name: random.standard_normal((count, *found.shapes[name][1:])).astype(np.float32) for name in found.inputs}
