"""A .tflite file of two ops, written without a converter: y = x + x, z = relu(y)."""

from __future__ import annotations

from pathlib import Path

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

SHAPE = [1, 4]


def write_add_relu(path: Path, *, signature: bool = True) -> Path:
    """Write the model: tensors t0, t1, t2, in the signature "image", "sum", "scores"."""
    model = schema.ModelT()
    model.version = 3
    model.buffers = [schema.BufferT()]
    model.operatorCodes = [_code(schema.BuiltinOperator.ADD), _code(schema.BuiltinOperator.RELU)]
    graph = schema.SubGraphT()
    graph.tensors = [_tensor(f"t{index}") for index in range(3)]
    graph.inputs, graph.outputs = [0], [1, 2]
    graph.operators = [_operator(0, [0, 0], [1]), _operator(1, [1], [2])]
    graph.operators[0].builtinOptionsType = schema.BuiltinOptions.AddOptions
    graph.operators[0].builtinOptions = schema.AddOptionsT()
    model.subgraphs = [graph]
    if signature:
        default = schema.SignatureDefT()
        default.signatureKey, default.subgraphIndex = "serving_default", 0
        default.inputs = [_tensor_map("image", 0)]
        default.outputs = [_tensor_map("scores", 2), _tensor_map("sum", 1)]
        model.signatureDefs = [default]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _code(builtin: int) -> schema.OperatorCodeT:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = builtin
    code.version = 1
    return code


def _tensor(name: str) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, SHAPE, schema.TensorType.FLOAT32, 0
    return tensor


def _operator(code: int, inputs: list[int], outputs: list[int]) -> schema.OperatorT:
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, outputs
    return operator


def _tensor_map(name: str, index: int) -> schema.TensorMapT:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name, index
    return entry
