"""Give a converted .tflite ONNX's outputs: their names, their order and their layouts.

The converter leaves some maps channels last and others not, by what its own passes could remove.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from edgekit.convert.parity import compare
from edgekit.convert.tflite_codes import index_of

Array = npt.NDArray[Any]
Order = tuple[int, ...]
SIGNATURE = "serving_default"
# By rank: how (N, ..., C) is put in order as (N, C, ...).
CHANNELS_FIRST: dict[int, Order] = {3: (0, 2, 1), 4: (0, 3, 1, 2), 5: (0, 4, 1, 2, 3)}


def turned(expected: Mapping[str, Array], found: Mapping[str, Array]) -> dict[str, Order]:
    """Return the order that brings each output which came channels last back to ONNX's.

    ``expected`` and ``found``: (N, ...) per name. Where shapes leave a doubt, the numbers decide.
    """
    orders = {}
    for name, wanted in expected.items():
        order, there = CHANNELS_FIRST.get(wanted.ndim), found.get(name)
        if order is None or there is None or there.ndim != wanted.ndim:
            continue
        as_it_is, in_order = (
            compare({name: wanted}, {name: form}).max_error for form in (there, there.transpose(order))
        )
        if in_order < as_it_is:
            orders[name] = order
    return orders


def sign(model: Any, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    """Make these tensors the file's inputs and outputs, in this order, and its one signature's, in place.

    ``inputs`` and ``outputs``: the name that each is to have, by the one it has. Returns the name of a tensor that
    the file does not have, or "".
    """
    main = model.subgraphs[0]
    tensors = {_text(tensor.name): index for index, tensor in enumerate(main.tensors)}
    names = {**inputs, **outputs}
    if lost := next((names[name] for name in names if name not in tensors), ""):
        return lost
    for name, wanted in names.items():
        main.tensors[tensors[name]].name = wanted.encode()
    main.inputs, main.outputs = ([tensors[name] for name in side] for side in (inputs, outputs))
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = SIGNATURE.encode(), 0
    signature.inputs, signature.outputs = (
        [_entry(wanted, tensors[name]) for name, wanted in side.items()] for side in (inputs, outputs)
    )
    model.signatureDefs = [signature]
    return ""


def unmade(model: Any) -> str:
    """Return the first tensor that an op reads and that no op, weight or input gives; "" where there is none."""
    main = model.subgraphs[0]
    made = {int(index) for index in main.inputs}
    for op in main.operators:
        for index in op.inputs:
            tensor = main.tensors[index]
            data = model.buffers[tensor.buffer].data
            if index >= 0 and index not in made and not tensor.isVariable and (data is None or not len(data)):
                return _text(tensor.name)
        made |= {int(index) for index in op.outputs}
    return ""


def turn(model: Any, orders: Mapping[str, Order]) -> None:
    """Put a TRANSPOSE behind each of these outputs, in place; it takes the output's name."""
    main = model.subgraphs[0]
    for name, order in orders.items():
        index = next(i for i in main.outputs if _text(main.tensors[i].name) == name)
        inner = main.tensors[index]
        permutation = _constant(model, f"{name}_order", np.array(order, np.int32))
        outer = schema.TensorT()
        outer.name, outer.type, outer.buffer = name.encode(), inner.type, 0
        outer.shape = [int(inner.shape[axis]) for axis in order]
        inner.name = f"{name}_channels_last".encode()
        main.tensors.append(outer)
        turned_index = len(main.tensors) - 1
        op = schema.OperatorT()
        op.opcodeIndex = index_of(model, schema.BuiltinOperator.TRANSPOSE)
        op.inputs, op.outputs = [index, permutation], [turned_index]
        op.builtinOptionsType = schema.BuiltinOptions.TransposeOptions
        op.builtinOptions = schema.TransposeOptionsT()
        main.operators = [*main.operators, op]
        main.outputs = [turned_index if i == index else i for i in main.outputs]
        for entry in model.signatureDefs[0].outputs:
            if entry.tensorIndex == index:
                entry.tensorIndex = turned_index


def _constant(model: Any, name: str, values: Array) -> int:
    buffer, tensor, main = schema.BufferT(), schema.TensorT(), model.subgraphs[0]
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.name, tensor.shape, tensor.buffer = name.encode(), list(values.shape), len(model.buffers) - 1
    tensor.type = schema.TensorType.INT32
    main.tensors.append(tensor)
    return len(main.tensors) - 1


def _entry(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), index
    return entry


def _text(name: bytes) -> str:
    return name.decode("utf-8", "replace")
