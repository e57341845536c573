"""Put the rounding of int8 on single tensors of a float model, as plain float ops that any runtime executes.

value -> min(max(round(value / scale), low), high) * scale. The runtimes' own quantize ops would do for one scale,
but not for one per channel, which is the question that finds most causes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import onnx
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgekit.diagnose.quantized_file import Quantization

Array = npt.NDArray[Any]
_STEPS = 255
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Rounding:
    """``scale`` is a scalar or broadcasts over the tensor; ``low`` and ``high`` are in steps, likewise."""

    scale: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, form: Quantization) -> Rounding:
        """Return the rounding of a per-tensor int8 form."""
        info = np.iinfo(form.dtype)
        zero = float(form.zero[0])
        return cls(np.asarray(form.scale[0]), np.asarray(info.min - zero), np.asarray(info.max - zero))

    @classmethod
    def over(cls, low: Any, high: Any) -> Rounding:
        """Return 256 steps over a range (widened to hold 0), or over one range per channel."""
        bottom, top = np.minimum(low, 0.0), np.maximum(high, 0.0)
        scale = np.maximum((top - bottom) / _STEPS, _SMALLEST)
        first = np.rint(bottom / scale)
        return cls(np.asarray(scale), np.asarray(first), np.asarray(first + _STEPS))

    @classmethod
    def per_channel(cls, magnitudes: Array, rank: int, axis: int, *, signed: bool) -> Rounding:
        """Return one range per channel: 0 to its magnitude, or both ways where ``signed``."""
        shape = [1] * rank
        shape[axis] = -1
        peaks = magnitudes.reshape(shape)
        return cls.over(-peaks if signed else np.zeros_like(peaks), peaks)


def simulate(content: bytes, format: str, rounded: Mapping[str, Rounding], constants: Mapping[str, Array]) -> bytes:
    """Return the float model with tensors rounded and constants replaced (same shapes), both by tensor name."""
    return _WRITERS[format](content, rounded, constants)


def _tflite(content: bytes, rounded: Mapping[str, Rounding], constants: Mapping[str, Array]) -> bytes:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    main = model.subgraphs[0]
    index = {tensor.name.decode(): number for number, tensor in enumerate(main.tensors)}
    for name, values in constants.items():
        tensor = main.tensors[index[name]]
        tensor.buffer = _buffer(model, values)
    for name, rounding in rounded.items():
        _round_tflite(model, index[name], rounding)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _round_tflite(model: Any, source: int, rounding: Rounding) -> None:
    main = model.subgraphs[0]
    made = next((i for i, op in enumerate(main.operators) if source in op.outputs), -1)
    steps = [
        ("MUL", schema.MulOptionsT, 1 / rounding.scale),
        ("ROUND", None, None),
        ("MAXIMUM", schema.MaximumMinimumOptionsT, rounding.low),
        ("MINIMUM", schema.MaximumMinimumOptionsT, rounding.high),
        ("MUL", schema.MulOptionsT, rounding.scale),
    ]
    before, added = source, []
    for builtin, options, value in steps:
        inputs = [before] if value is None else [before, _tensor(model, np.atleast_1d(value), main.tensors[source])]
        before = _tensor(model, None, main.tensors[source])
        added.append(_operator(model, builtin, inputs, before, options))
    for op in main.operators:
        op.inputs = [before if i == source else i for i in op.inputs]
    main.operators[made + 1 : made + 1] = added
    main.outputs = [before if i == source else i for i in main.outputs]
    for signature in model.signatureDefs or ():
        for entry in signature.outputs:
            entry.tensorIndex = before if entry.tensorIndex == source else entry.tensorIndex


def _buffer(model: Any, values: Array) -> int:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    return len(model.buffers) - 1


def _tensor(model: Any, values: Array | None, like: Any) -> int:
    """Add a constant, or an activation of the same shape as ``like``."""
    main = model.subgraphs[0]
    tensor = schema.TensorT()
    tensor.name = f"rounding/{len(main.tensors)}".encode()
    tensor.type = schema.TensorType.FLOAT32
    tensor.shape = like.shape if values is None else list(values.shape)
    tensor.shapeSignature = like.shapeSignature if values is None else None
    tensor.buffer = 0 if values is None else _buffer(model, values)
    main.tensors.append(tensor)
    return len(main.tensors) - 1


def _operator(model: Any, builtin: str, inputs: list[int], output: int, options: Callable[[], Any] | None) -> Any:
    number = getattr(schema.BuiltinOperator, builtin)
    code = next(
        (i for i, c in enumerate(model.operatorCodes) if max(c.builtinCode, c.deprecatedBuiltinCode) == number), None
    )
    if code is None:
        entry = schema.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = number, min(number, 127), 1
        model.operatorCodes.append(entry)
        code = len(model.operatorCodes) - 1
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = code, inputs, [output]
    if options is not None:
        operator.builtinOptions = options()
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(operator.builtinOptions).__name__[:-1])
    return operator


def _onnx(content: bytes, rounded: Mapping[str, Rounding], constants: Mapping[str, Array]) -> bytes:
    proto = onnx.load_from_string(content)
    graph = proto.graph
    for tensor in graph.initializer:
        if tensor.name in constants:
            tensor.CopyFrom(onnx.numpy_helper.from_array(constants[tensor.name].astype(np.float32), tensor.name))
    for node in graph.node:
        if node.op_type == "Constant" and node.output[0] in constants:
            value = onnx.numpy_helper.from_array(constants[node.output[0]].astype(np.float32))
            del node.attribute[:]
            node.attribute.append(onnx.helper.make_attribute("value", value))
    for name, rounding in rounded.items():
        _round_onnx(graph, name, rounding)
    return bytes(proto.SerializeToString())


def _round_onnx(graph: Any, name: str, rounding: Rounding) -> None:
    outputs = {value.name for value in graph.output}
    made = next((i for i, node in enumerate(graph.node) if name in node.output), -1)
    source, result = (f"{name}/exact", name) if name in outputs else (name, f"{name}/rounded")
    for node in graph.node:
        node.input[:] = [result if each == name else each for each in node.input]
        if source != name:
            node.output[:] = [source if each == name else each for each in node.output]
    parts = [f"{name}/rounding{i}" for i in range(4)]
    values = {"inverse": 1 / rounding.scale, "low": rounding.low, "high": rounding.high, "scale": rounding.scale}
    for key, value in values.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, np.float32), f"{name}/rounding/{key}"))
    nodes = [
        onnx.helper.make_node("Mul", [source, f"{name}/rounding/inverse"], [parts[0]]),
        onnx.helper.make_node("Round", [parts[0]], [parts[1]]),
        onnx.helper.make_node("Max", [parts[1], f"{name}/rounding/low"], [parts[2]]),
        onnx.helper.make_node("Min", [parts[2], f"{name}/rounding/high"], [parts[3]]),
        onnx.helper.make_node("Mul", [parts[3], f"{name}/rounding/scale"], [result]),
    ]
    for offset, node in enumerate(nodes):
        graph.node.insert(made + 1 + offset, node)


_WRITERS = {"tflite": _tflite, "onnx": _onnx}
