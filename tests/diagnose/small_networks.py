"""Small convolutional networks described once and written as a float .tflite or .onnx, without a converter."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import onnx
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
_SAME = schema.Padding.SAME
_RELU = schema.ActivationFunctionType.RELU
_FLOAT = schema.TensorType.FLOAT32


@dataclass(frozen=True)
class Node:
    """One op. ``weights`` are OHWI for convolutions, (kh, kw, C) for depthwise ones."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    weights: tuple[Array, ...] = ()
    stride: int = 1
    relu: bool = False


@dataclass
class Network:
    """A graph of (1, height, width, channels) tensors, built op by op; every method returns a tensor's name."""

    shape: tuple[int, int, int] = (16, 16, 3)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.shapes["image"] = (1, *self.shape)

    def conv(self, x: str, weights: Array, bias: Array, name: str, *, stride: int = 1, relu: bool = True) -> str:
        _, height, width, _ = self.shapes[x]
        shape = (1, -(-height // stride), -(-width // stride), len(weights))
        return self._add(Node("conv", (x,), name, (weights, bias), stride, relu), shape)

    def depthwise(self, x: str, weights: Array, bias: Array, name: str, *, relu: bool = True) -> str:
        return self._add(Node("depthwise", (x,), name, (weights, bias), 1, relu), self.shapes[x])

    def unary(self, kind: str, x: str, name: str) -> str:
        """Add hard_swish, sigmoid or elu."""
        return self._add(Node(kind, (x,), name), self.shapes[x])

    def scale(self, x: str, factor: float, name: str) -> str:
        return self._add(Node("scale", (x,), name, (np.float32(factor).reshape(1),)), self.shapes[x])

    def add(self, x: str, y: str, name: str) -> str:
        return self._add(Node("add", (x, y), name), self.shapes[x])

    def concat(self, parts: list[str], name: str) -> str:
        channels = sum(self.shapes[part][-1] for part in parts)
        return self._add(Node("concat", tuple(parts), name), (*self.shapes[parts[0]][:-1], channels))

    def write(self, path: Path, format: str) -> Path:
        """Write the file; an .onnx takes and gives NCHW."""
        path.write_bytes({"tflite": _tflite, "onnx": _onnx}[format](self))
        return path

    def _add(self, node: Node, shape: tuple[int, ...]) -> str:
        self.nodes.append(node)
        self.shapes[node.output] = shape
        return node.output


class _TfliteWriter:
    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.index: dict[str, int] = {}

    def tensor(self, name: str, shape: tuple[int, ...], data: Array | None = None) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), _FLOAT, 0
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.astype(np.float32).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(tensor)
        self.index[name] = len(self.graph.tensors) - 1
        return self.index[name]

    def op(self, builtin: str, inputs: list[int], output: int, options: Any = None) -> None:
        number = getattr(schema.BuiltinOperator, builtin)
        codes = [code.builtinCode for code in self.model.operatorCodes]
        if number not in codes:
            code = schema.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
            self.model.operatorCodes.append(code)
            codes.append(number)
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.inputs, operator.outputs = codes.index(number), inputs, [output]
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = options
        self.graph.operators.append(operator)

    def finish(self, inputs: list[str], outputs: list[str]) -> bytes:
        self.graph.inputs = [self.index[name] for name in inputs]
        self.graph.outputs = [self.index[name] for name in outputs]
        self.model.subgraphs = [self.graph]
        default = schema.SignatureDefT()
        default.signatureKey, default.subgraphIndex = "serving_default", 0
        default.inputs = [_tensor_map(name, self.index[name]) for name in inputs]
        default.outputs = [_tensor_map(name, self.index[name]) for name in outputs]
        self.model.signatureDefs = [default]
        builder = flatbuffers.Builder()
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


def _tflite(network: Network) -> bytes:
    writer = _TfliteWriter()
    writer.tensor("image", network.shapes["image"])
    for node in network.nodes:
        inputs = [writer.index[name] for name in node.inputs]
        for number, value in enumerate(_tflite_weights(node)):
            inputs.append(writer.tensor(f"{node.output}/{('weights', 'bias')[number]}", value.shape, value))
        output = writer.tensor(node.output, network.shapes[node.output])
        builtin, options = _tflite_op(node)
        writer.op(builtin, inputs, output, options)
    return writer.finish(["image"], network.outputs)


def _tflite_weights(node: Node) -> tuple[Array, ...]:
    if node.kind == "depthwise":
        return node.weights[0][np.newaxis], node.weights[1]
    return node.weights


def _tflite_op(node: Node) -> tuple[str, Any]:
    if node.kind in ("conv", "depthwise"):
        options = schema.Conv2DOptionsT() if node.kind == "conv" else schema.DepthwiseConv2DOptionsT()
        options.padding, options.strideH, options.strideW = _SAME, node.stride, node.stride
        options.fusedActivationFunction = _RELU if node.relu else 0
        if node.kind == "depthwise":
            options.depthMultiplier = 1
        return ("CONV_2D" if node.kind == "conv" else "DEPTHWISE_CONV_2D"), options
    if node.kind == "concat":
        options = schema.ConcatenationOptionsT()
        options.axis = 3
        return "CONCATENATION", options
    if node.kind == "add":
        return "ADD", schema.AddOptionsT()
    if node.kind == "scale":
        return "MUL", schema.MulOptionsT()
    return {"hard_swish": "HARD_SWISH", "sigmoid": "LOGISTIC", "elu": "ELU"}[node.kind], None


def _tensor_map(name: str, index: int) -> schema.TensorMapT:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry


def _onnx(network: Network) -> bytes:
    nodes: list[Any] = []
    constants: list[Any] = []
    for node in network.nodes:
        _onnx_nodes(node, nodes, constants)
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, _nchw(network.shapes["image"]))],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, _nchw(network.shapes[n])) for n in network.outputs],
        constants,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))


def _onnx_nodes(node: Node, nodes: list[Any], constants: list[Any]) -> None:
    def constant(name: str, value: Array) -> str:
        constants.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), f"{node.output}/{name}"))
        return f"{node.output}/{name}"

    if node.kind in ("conv", "depthwise"):
        weights, bias = node.weights
        kernel = weights.transpose(0, 3, 1, 2) if node.kind == "conv" else weights.transpose(2, 0, 1)[:, np.newaxis]
        inputs = [node.inputs[0], constant("weights", kernel), constant("bias", bias)]
        plain = f"{node.output}/linear" if node.relu else node.output
        groups = 1 if node.kind == "conv" else len(kernel)
        nodes.append(
            helper.make_node(
                "Conv", inputs, [plain], auto_pad="SAME_UPPER", strides=[node.stride] * 2, group=groups,
                kernel_shape=list(kernel.shape[2:]),
            )
        )  # fmt: skip
        if node.relu:
            nodes.append(helper.make_node("Relu", [plain], [node.output]))
    elif node.kind == "concat":
        nodes.append(helper.make_node("Concat", list(node.inputs), [node.output], axis=1))
    elif node.kind == "scale":
        nodes.append(helper.make_node("Mul", [node.inputs[0], constant("factor", node.weights[0])], [node.output]))
    elif node.kind == "hard_swish":  # op by op, as tf2onnx writes it
        x = node.inputs[0]
        shifted, clipped, product = (f"{node.output}/{part}" for part in ("shifted", "clipped", "product"))
        three, low, high = (
            constant("three", np.float32(3)),
            constant("low", np.float32(0)),
            constant("high", np.float32(6)),
        )
        nodes.append(helper.make_node("Add", [x, three], [shifted]))
        nodes.append(helper.make_node("Clip", [shifted, low, high], [clipped]))
        nodes.append(helper.make_node("Mul", [x, clipped], [product]))
        nodes.append(helper.make_node("Mul", [product, constant("sixth", np.float32(1 / 6))], [node.output]))
    else:
        kind = {"sigmoid": "Sigmoid", "elu": "Elu", "add": "Add"}[node.kind]
        nodes.append(helper.make_node(kind, list(node.inputs), [node.output]))


def _nchw(shape: tuple[int, ...]) -> list[int]:
    return [shape[0], shape[3], shape[1], shape[2]]
