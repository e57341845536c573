"""Read a user's .tflite file as data: bounds first, then the flatbuffer's objects."""

from __future__ import annotations

import math
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgekit.errors import RecipeError, UnsupportedError
from edgekit.source.info import MAX_BYTES, Contents, Input

_KINDS = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
_DTYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if not name.startswith("_")}
_DAMAGE = (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError, UnicodeDecodeError, KeyError)
_FLOATS = {schema.TensorType.FLOAT32: np.float32, schema.TensorType.FLOAT16: np.float16}
_INTEGERS = {schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT16, schema.TensorType.INT4}
_AGAIN = "Copy the file again, or convert the model again."


def read(path: Path) -> Contents:
    """Check a `.tflite` file. Raises RecipeError for a damaged one, UnsupportedError for NaN weights."""
    model = read_model(path)
    main = model.subgraphs[0]
    parameters = 0
    for tensor in main.tensors:
        data = model.buffers[tensor.buffer].data
        if tensor.buffer and data is not None and len(data):
            parameters += math.prod(int(size) for size in tensor.shape) if tensor.shape is not None else 0
            kind = _FLOATS.get(tensor.type)
            if kind and len(data) % np.dtype(kind).itemsize == 0 and np.isnan(np.frombuffer(data, kind)).any():
                raise UnsupportedError(f"{path} holds NaN in the tensor {tensor.name!r}.")
    warnings = ["pruning needs a Keras or ONNX model: a TFLite model is quantized and profiled only"]
    custom = custom_names(model)
    if custom:
        warnings.insert(0, f"custom operators {', '.join(custom)}: only a runtime that was built with them runs it")
    quantized = is_quantized(model)
    if quantized:
        warnings.insert(0, "the model is quantized already: it is profiled and scored as it is, not quantized again")
    kinds = tuple(kind_of(model.operatorCodes[op.opcodeIndex]) for op in main.operators or ())
    return Contents(parameters, kinds, tuple(warnings), quantized, inputs_of(model))


def read_model(path: Path) -> Any:
    """Return the flatbuffer as objects, every index in it checked. Raises RecipeError for a damaged file."""
    if path.stat().st_size > MAX_BYTES:
        raise UnsupportedError(f"{path} is larger than {MAX_BYTES >> 30} GB, more than edgekit reads.")
    content = path.read_bytes()
    if content[4:8] != b"TFL3":
        raise RecipeError(f"{path} is not a .tflite file: it has no TFL3 mark.", _AGAIN)
    try:
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
        problem = _problem(model)
    except _DAMAGE as error:
        raise RecipeError(f"{path} is damaged: {type(error).__name__}: {error}", _AGAIN) from error
    if problem:
        raise RecipeError(f"{path} is damaged: {problem}.", _AGAIN)
    return model


def kind_of(code: Any) -> str:
    """Return the builtin's name, or ``CUSTOM:name``. Old files keep the code in the deprecated field."""
    builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
    if builtin == schema.BuiltinOperator.CUSTOM:
        return f"CUSTOM:{(code.customCode or b'').decode('utf-8', 'replace')}"
    return str(_KINDS.get(builtin, f"UNKNOWN:{builtin}"))


def custom_names(model: Any) -> tuple[str, ...]:
    kinds = (kind_of(code) for code in model.operatorCodes or ())
    return tuple(sorted({kind.partition(":")[2] for kind in kinds if kind.startswith(("CUSTOM:", "UNKNOWN:"))}))


def tensor_names(model: Any) -> list[str]:
    """Return a name for each tensor: the signature's for inputs and outputs; numbered where two are alike."""
    tensors = model.subgraphs[0].tensors
    plain = Counter(text_of(tensor.name) for tensor in tensors)
    aliases = _aliases(model)
    texts = [text_of(tensor.name) for tensor in tensors]
    return [
        aliases.get(index) or (text if plain[text] == 1 and text not in aliases.values() else f"{index}:{text}")
        for index, text in enumerate(texts)
    ]


def _aliases(model: Any) -> dict[int, str]:
    """Return the names that callers use, by tensor, out of the first signature."""
    for signature in entries(model.signatureDefs):
        if (signature.subgraphIndex or 0) == 0:
            ends = [*entries(signature.inputs), *entries(signature.outputs)]
            return {int(end.tensorIndex): text_of(end.name) for end in ends}
    return {}


def shape_of(tensor: Any) -> tuple[int | None, ...]:
    """Return a tensor's shape, None for an open size."""
    signature = entries(tensor.shapeSignature)
    fixed = entries(tensor.shape)
    sizes = signature if len(signature) == len(fixed) else fixed
    return tuple(None if size < 0 else int(size) for size in sizes)


def entries(values: Any) -> list[Any]:
    """Return what a field of the flatbuffer holds, also where it is absent."""
    return [] if values is None else list(values)


def text_of(name: Any) -> str:
    """Return a name as text, whatever bytes it is made of."""
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name or "")


def dtype_name(tensor: Any) -> str:
    """Return e.g. float32."""
    return str(_DTYPES.get(tensor.type, "undefined"))


def inputs_of(model: Any) -> tuple[Input, ...]:
    """Return what a caller feeds, under the names of the signature."""
    main, names = model.subgraphs[0], tensor_names(model)
    return tuple(Input(names[i], shape_of(main.tensors[i]), dtype_name(main.tensors[i])) for i in entries(main.inputs))


def is_quantized(model: Any) -> bool:
    """Tell whether any tensor of integers has a scale; float16 weights are no quantization."""
    return any(
        tensor.type in _INTEGERS
        and tensor.quantization is not None
        and tensor.quantization.scale is not None
        and len(tensor.quantization.scale)
        for graph in model.subgraphs
        for tensor in graph.tensors
    )


def _read_too_early(graph: Any) -> str:
    """Return the name of a tensor that an op reads and a later one makes; empty where there is none."""
    made_by_nobody_yet = {int(end) for op in graph.operators or () for end in entries(op.outputs)}
    for op in graph.operators or ():
        late = [end for end in entries(op.inputs) if end in made_by_nobody_yet and not graph.tensors[end].isVariable]
        if late:
            return text_of(graph.tensors[late[0]].name)
        made_by_nobody_yet.difference_update(int(end) for end in entries(op.outputs))
    return ""


def _problem(model: Any) -> str:
    """Return what is wrong with the indices and sizes, or an empty text."""
    if not model.subgraphs or not model.operatorCodes or not model.buffers:
        return "it holds no graph"
    for graph in model.subgraphs:
        if not graph.tensors or graph.inputs is None or graph.outputs is None or not len(graph.outputs):
            return "its graph has no tensors, inputs or outputs"
        count = len(graph.tensors)
        for tensor in graph.tensors:
            if not 0 <= tensor.buffer < len(model.buffers):
                return f"the tensor {tensor.name!r} has no buffer"
            sizes = [] if tensor.shape is None else [int(size) for size in tensor.shape]
            if any(size < 0 for size in sizes) or math.prod(sizes) > MAX_BYTES:
                return f"the tensor {tensor.name!r} has the shape {sizes}"
        for op in graph.operators or ():
            ends = [*(op.inputs if op.inputs is not None else ()), *(op.outputs if op.outputs is not None else ())]
            if not 0 <= op.opcodeIndex < len(model.operatorCodes) or not all(-1 <= end < count for end in ends):
                return "an operator points at what is not there"
        if not all(0 <= end < count for end in (*graph.inputs, *graph.outputs)):
            return "an input or output points at what is not there"
        if late := _read_too_early(graph):
            return f"an operator reads the tensor {late!r} before it is made"
    return ""
