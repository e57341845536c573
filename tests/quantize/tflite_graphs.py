"""Small float .tflite networks, written without a converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

NONE, RELU, RELU6, TANH = 0, 1, 3, 4


class Network:
    """Ops are added in order; each method returns the index of its output tensor. One input, "x"."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.buffers = [schema.BufferT()]
        self.codes: list[Any] = []
        self.x = self.tensor("x", shape)

    def tensor(self, name: str, shape: tuple[int, ...], buffer: int = 0, type: int = 0) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.buffer, made.type = name, list(shape), buffer, type
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def constant(self, name: str, values: Any) -> int:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.buffers.append(buffer)
        kind = schema.TensorType.INT32 if values.dtype == np.int32 else schema.TensorType.FLOAT32
        return self.tensor(name, values.shape, len(self.buffers) - 1, kind)

    def op(self, kind: str, inputs: list[int], shape: tuple[int, ...], options: Any = None) -> int:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        code.version = 1
        self.codes.append(code)
        made = schema.OperatorT()
        output = self.tensor(f"t{len(self.codes)}", shape)
        made.opcodeIndex, made.inputs, made.outputs = len(self.codes) - 1, inputs, [output]
        if options is not None:
            made.builtinOptions = options
            made.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
        self.graph.operators.append(made)
        return output

    def conv(self, data: int, weight: int, bias: int, act: int = RELU, depthwise: bool = False) -> int:
        options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
        options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
        options.fusedActivationFunction = act
        channels = self.graph.tensors[weight].shape[3 if depthwise else 0]
        if depthwise:
            options.depthMultiplier = channels // self.graph.tensors[data].shape[3]
        shape = (*self.graph.tensors[data].shape[:3], channels)
        return self.op("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [data, weight, bias], shape, options)

    def pool(self, data: int, size: int = 2) -> int:
        options = schema.Pool2DOptionsT()
        options.strideH = options.strideW = options.filterHeight = options.filterWidth = size
        n, h, w, c = self.graph.tensors[data].shape
        return self.op("MAX_POOL_2D", [data], (n, h // size, w // size, c), options)

    def reshape(self, data: int, shape: tuple[int, ...]) -> int:
        wanted = self.constant(f"shape{len(self.codes)}", np.array(shape, np.int32))
        return self.op("RESHAPE", [data, wanted], shape, schema.ReshapeOptionsT())

    def dense(self, data: int, weight: int, bias: int, act: int = RELU) -> int:
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = act
        return self.op("FULLY_CONNECTED", [data, weight, bias], (1, self.graph.tensors[weight].shape[0]), options)

    def add(self, left: int, right: int) -> int:
        return self.op("ADD", [left, right], tuple(self.graph.tensors[left].shape), schema.AddOptionsT())

    def save(self, path: Path, *outputs: int) -> Path:
        """Write the network with outputs "y0", "y1" and so on."""
        model = schema.ModelT()
        model.version, model.buffers, model.operatorCodes = 3, self.buffers, self.codes
        self.graph.inputs, self.graph.outputs = [self.x], list(outputs)
        model.subgraphs = [self.graph]
        signature = schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs = [_entry("x", self.x)]
        signature.outputs = [_entry(f"y{k}", output) for k, output in enumerate(outputs)]
        model.signatureDefs = [signature]
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path


def _entry(name: str, tensor: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, tensor
    return entry
