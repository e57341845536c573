"""Read a .tflite file as a network, with the flatbuffer schema alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.inspection.network import Network, Op, Shape, Tensor, bits, elements, image_layout, times
from edgekit.source.tflite_file import (
    custom_names,
    dtype_name,
    entries,
    kind_of,
    read_model,
    shape_of,
    tensor_names,
    text_of,
)  # fmt: skip

_INTEGERS = ("int8", "uint8", "int16", "int4", "int2")
_PARAMETERS = ("float", "int8", "uint8", "int4")
_UNCOUNTED = ("LSTM", "RNN", "WHILE", "CUSTOM:", "STABLEHLO")


def read(path: Path) -> Network:
    """Return the network of a checked `.tflite` file (``edgekit.source.inspect`` refuses damaged ones)."""
    model = read_model(path)
    main = model.subgraphs[0]
    constant = {
        index
        for index, tensor in enumerate(main.tensors)
        if tensor.buffer and model.buffers[tensor.buffer].data is not None and len(model.buffers[tensor.buffer].data)
    }
    names = tensor_names(model)
    shapes = [shape_of(tensor) for tensor in main.tensors]
    tensors = {
        names[i]: Tensor(names[i], shapes[i], dtype_name(tensor))
        for i, tensor in enumerate(main.tensors)
        if i not in constant
    }
    kinds = [kind_of(code) for code in model.operatorCodes]
    ops = tuple(
        Op(
            kinds[op.opcodeIndex],
            text_of(main.tensors[op.outputs[0]].name) if len(entries(op.outputs)) else kinds[op.opcodeIndex],
            tuple(names[i] for i in entries(op.inputs) if i >= 0 and i not in constant),
            tuple(names[i] for i in entries(op.outputs)),
            _macs(kinds[op.opcodeIndex], [shapes[i] if i >= 0 else None for i in entries(op.inputs)],
                  [shapes[i] for i in entries(op.outputs)]),
        )
        for op in entries(main.operators)
    )  # fmt: skip
    weights = [(elements(shapes[i]) or 0, dtype_name(main.tensors[i])) for i in sorted(constant)]
    parameters = sum(count for count, dtype in weights if dtype.startswith(_PARAMETERS))
    weight_bytes = sum(count * bits(dtype) // 8 for count, dtype in weights)
    return Network(
        tuple(_as_input(tensors[names[i]]) for i in entries(main.inputs) if names[i] in tensors),
        tuple(tensors[names[i]] for i in entries(main.outputs) if names[i] in tensors),
        ops,
        tensors,
        parameters,
        weight_bytes,
        _quantized(main, constant),
        f"schema {model.version}",
        custom_names(model),
    )


def _quantized(main: Any, constant: set[int]) -> str:
    """Say which of weights and activations are integers with scales; float16 weights are no quantization."""
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for index, tensor in enumerate(main.tensors):
        dtype = dtype_name(tensor)
        if dtype in _INTEGERS and tensor.quantization is not None and entries(tensor.quantization.scale):
            found[index in constant].add(dtype)
    sides = ((found[True], "weights"), (found[False], "activations"))
    return " and ".join(f"{'/'.join(sorted(dtypes))} {side}" for dtypes, side in sides if dtypes)


def _macs(kind: str, inputs: list[Shape | None], outputs: list[Shape | None]) -> int | None:
    result = elements(outputs[0]) if outputs else None
    weight = inputs[1] if len(inputs) > 1 else None
    if kind == "CONV_2D":
        return times(result, *weight[1:]) if weight else None
    if kind == "DEPTHWISE_CONV_2D":
        return times(result, *weight[1:3]) if weight else None
    if kind == "TRANSPOSE_CONV":
        entry = inputs[2] if len(inputs) > 2 else None
        return times(elements(entry), *weight[:3]) if weight else None
    if kind == "FULLY_CONNECTED":
        return times(result, weight[-1]) if weight else None
    if kind == "BATCH_MATMUL":
        return times(result, inputs[0][-1]) if inputs[0] else None
    return None if kind == "IF" or any(part in kind for part in _UNCOUNTED) else 0


def _as_input(tensor: Tensor) -> Tensor:
    four = tensor.shape is not None and len(tensor.shape) == 4
    return Tensor(tensor.name, tensor.shape, tensor.dtype, image_layout(tensor.shape) or ("NHWC" if four else ""))
