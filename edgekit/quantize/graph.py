"""Read a float .tflite or .onnx as plain ops and tensor names, so that decisions need not know the format."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.shape_inference import InferenceError

from edgekit.errors import StageError
from edgekit.source.tflite_file import kind_of

_TFLITE_FLOAT = schema.TensorType.FLOAT32
# Ops that read rows of a table (embeddings), and the operand that is the table.
LOOKUP_OPERAND = {"GATHER": 0, "Gather": 0}
# The operand that holds the weights. MatMul and the embedding lookups count only where it is a constant.
WEIGHT_OPERAND = {
    "CONV_2D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "TRANSPOSE_CONV": 1,
    "FULLY_CONNECTED": 1,
    "BATCH_MATMUL": 1,
    "Conv": 1,
    "ConvTranspose": 1,
    "Gemm": 1,
    "MatMul": 1,
}


@dataclass(frozen=True)
class Op:
    """One op. ``name`` is its first output tensor, unique in a graph; "" in ``inputs`` is an absent one."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weight: str = ""
    is_float: bool = True

    @property
    def weighted(self) -> bool:
        return bool(self.weight)


@dataclass(frozen=True)
class Graph:
    """The main graph in execution order. ``constants`` have data; ``floats`` are float32 activations.

    ``tables``: smallest and largest value of every float constant a lookup reads.
    """

    ops: tuple[Op, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: frozenset[str]
    floats: frozenset[str]
    tables: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @cached_property
    def consumers(self) -> dict[str, list[int]]:
        """Map each tensor to the positions of the ops that read it."""
        found: dict[str, list[int]] = {}
        for position, op in enumerate(self.ops):
            for tensor in op.inputs:
                found.setdefault(tensor, []).append(position)
        return found

    @cached_property
    def producers(self) -> dict[str, int]:
        return {tensor: position for position, op in enumerate(self.ops) for tensor in op.outputs}

    def is_dead(self, tensor: str) -> bool:
        return bool(tensor) and tensor not in self.consumers and tensor not in self.outputs

    def table_of(self, op: Op) -> tuple[float, float] | None:
        """Return the range of the table an op looks up, None for every other op."""
        operand = LOOKUP_OPERAND.get(op.kind)
        return None if operand is None else self.tables.get(op.inputs[operand])

    def after(self, position: int) -> Iterator[int]:
        for tensor in self.ops[position].outputs:
            yield from self.consumers.get(tensor, ())

    def before(self, position: int) -> Iterator[int]:
        for tensor in self.ops[position].inputs:
            if tensor in self.producers:
                yield self.producers[tensor]


def read_graph(path: Path, format: str) -> Graph:
    """Read the graph of a float model; ``format`` is tflite or onnx. Raises StageError for a broken file."""
    try:
        return _READERS[format](path)
    except (ValueError, TypeError, IndexError, struct.error, DecodeError, InferenceError) as error:
        raise StageError(f"{path.name} is not a readable {format} file: {error}") from error


def _read_tflite(path: Path) -> Graph:
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise ValueError("it has no TFL3 mark")
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    main = model.subgraphs[0]
    names = [tensor.name.decode() for tensor in main.tensors]
    constants = frozenset(
        names[i] for i, tensor in enumerate(main.tensors) if model.buffers[tensor.buffer].data is not None
    )
    floats = frozenset(
        name
        for name, tensor in zip(names, main.tensors, strict=True)
        if tensor.type == _TFLITE_FLOAT and name not in constants
    )
    kinds = [kind_of(code) for code in model.operatorCodes]
    ops = tuple(
        _op(
            kinds[op.opcodeIndex],
            tuple(names[i] if i >= 0 else "" for i in op.inputs),
            tuple(names[i] for i in op.outputs),
            constants,
            floats,
        )
        for op in main.operators
    )
    inputs, outputs = (tuple(names[i] for i in side) for side in (main.inputs, main.outputs))
    data = {
        name: np.frombuffer(model.buffers[tensor.buffer].data, np.float32)
        for name, tensor in zip(names, main.tensors, strict=True)
        if name in constants and tensor.type == _TFLITE_FLOAT
    }
    return Graph(ops, inputs, outputs, constants, floats, _tables(ops, data))


def _read_onnx(path: Path) -> Graph:
    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    graph = model.graph
    constants = frozenset(tensor.name for tensor in graph.initializer) | frozenset(
        node.output[0] for node in graph.node if node.op_type == "Constant"
    )
    typed = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    floats = frozenset(name for name, kind in typed.items() if kind == onnx.TensorProto.FLOAT) - constants
    ops = tuple(
        _op(node.op_type, tuple(node.input), tuple(node.output), constants, floats)
        for node in graph.node
        if node.op_type != "Constant"
    )
    inputs = tuple(value.name for value in graph.input if value.name not in constants)
    data = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT
    }
    outputs = tuple(value.name for value in graph.output)
    return Graph(ops, inputs, outputs, constants, floats, _tables(ops, data))


def _op(
    kind: str,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    constants: frozenset[str],
    floats: frozenset[str],
) -> Op:
    operand = WEIGHT_OPERAND.get(kind, len(inputs))
    weight = inputs[operand] if operand < len(inputs) and inputs[operand] in constants else ""
    is_float = bool(outputs) and outputs[0] in floats
    return Op(outputs[0] if outputs else kind, kind, inputs, outputs, weight, is_float)


def _tables(ops: tuple[Op, ...], data: Mapping[str, npt.NDArray[Any]]) -> dict[str, tuple[float, float]]:
    read = {op.inputs[LOOKUP_OPERAND[op.kind]] for op in ops if op.kind in LOOKUP_OPERAND}
    return {
        name: (float(data[name].min()), float(data[name].max()))
        for name in sorted(read & data.keys())
        if data[name].size
    }


_READERS = {"tflite": _read_tflite, "onnx": _read_onnx}
