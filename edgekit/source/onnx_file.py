"""Read a user's ONNX file as data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from edgekit.errors import RecipeError, UnsupportedError
from edgekit.source.info import MAX_BYTES, Contents, Input

QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"}
QUANTIZED |= {"ConvInteger", "MatMulInteger"}
_STANDARD_DOMAINS = {"", "ai.onnx"}
_T = onnx.TensorProto
# Tensors of other types (int64 shapes, indices, booleans) are not what anyone calls parameters.
_PARAMETER_TYPES = {_T.FLOAT, _T.FLOAT16, _T.BFLOAT16, _T.DOUBLE, _T.INT8, _T.UINT8}
DTYPES = {number: name.lower() for name, number in _T.DataType.items()} | {_T.FLOAT: "float32", _T.DOUBLE: "float64"}
_COMPLEX = {_T.COMPLEX64, _T.COMPLEX128}
_BLOCK = 1 << 23  # numbers
_FEW = 256  # a small table of integers is no weight
_FLOAT_TYPES = {_T.FLOAT, _T.FLOAT16, _T.BFLOAT16, _T.DOUBLE}


@dataclass(frozen=True)
class _External:
    """Where in another file a tensor's numbers lie."""

    path: Path
    offset: int
    size_bytes: int


def read(path: Path) -> Contents:
    """Check an `.onnx` file. Raises RecipeError for a damaged one, UnsupportedError for what cannot be converted."""
    model = load(path)
    graphs = list(_graphs(model.graph))
    nodes = [node for graph in graphs for node in graph.node]
    _refuse_custom(model, nodes, path)
    _check_order(model.graph, frozenset(), path)
    tensors = [tensor for graph in graphs for tensor in _tensors(graph)]
    for tensor in tensors:
        _check_tensor(tensor, path)
    parameters = sum(math.prod(tensor.dims) for tensor in tensors if tensor.data_type in _PARAMETER_TYPES)
    warnings: list[str] = []
    quantized = any(node.op_type in QUANTIZED for node in nodes) or any(map(is_integer_weight, tensors))
    if quantized:
        warnings.insert(0, "the model is quantized already: give the float model to compare and calibrate against")
    kinds = tuple(node.op_type for node in nodes)
    return Contents(parameters, kinds, tuple(warnings), quantized, inputs_of(model))


def inputs_of(model: onnx.ModelProto) -> tuple[Input, ...]:
    """Return what a caller feeds: old files list their weights among the inputs, too."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return tuple(_input(value) for value in model.graph.input if value.name not in constants)


def is_integer_weight(tensor: onnx.TensorProto) -> bool:
    """Tell whether a tensor is a matrix or kernel of eight bits, which some tools cast and scale with plain ops."""
    return tensor.data_type in (_T.INT8, _T.UINT8) and len(tensor.dims) > 1 and math.prod(tensor.dims) > _FEW


def dtype_name(code: int) -> str:
    """Return numpy's name of an ONNX element type, e.g. float32; for others ONNX' own in small letters."""
    return str(DTYPES.get(code, "undefined"))


def dim_size(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    """Return a dimension's size; None where it is open, for which some exporters write -1."""
    fixed = dim.HasField("dim_value") and (dim.dim_value > 0 or (dim.dim_value == 0 and not dim.dim_param))
    return dim.dim_value if fixed else None


def _input(value: onnx.ValueInfoProto) -> Input:
    kind = value.type.tensor_type
    shape = tuple(dim_size(dim) for dim in kind.shape.dim) if kind.HasField("shape") else None
    return Input(value.name, shape, dtype_name(kind.elem_type))


def load(path: Path) -> onnx.ModelProto:
    """Parse the file, without what lies beside it. Raises RecipeError where it is no ONNX file."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except MemoryError:
        raise
    except Exception as error:  # whatever protobuf's C++ and Python parsers may raise
        raise RecipeError(f"{path} is not an ONNX file, or is truncated.", "Export the model again.") from error
    if not model.graph.node or not model.graph.output or not model.opset_import:
        raise RecipeError(f"{path} is not an ONNX file: it holds no graph.", "Export the model again.")
    return model


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """Yield the graph and those inside its If, Loop and Scan nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _graphs(inner)


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from (tensor.values for tensor in graph.sparse_initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                tensor = attribute.t
                tensor.name = tensor.name or (node.output[0] if node.output else node.name)
                yield tensor


def _refuse_custom(model: onnx.ModelProto, nodes: list[onnx.NodeProto], path: Path) -> None:
    own = {function.domain for function in model.functions}
    custom = sorted({f"{n.domain}.{n.op_type}" for n in nodes if n.domain not in _STANDARD_DOMAINS | own})
    if custom:
        raise UnsupportedError(
            f"{path} uses operators outside the ONNX standard: {', '.join(custom)}.",
            "Export it without them; an optimizer's fused operators appear when the exported file was rewritten.",
        )


def _check_order(graph: onnx.GraphProto, outside: Set[str], path: Path) -> None:
    """Refuse what nothing makes, or makes too late: a circle, or a weight that is missing."""
    known = {*outside, "", *(value.name for value in graph.input)}
    known |= {tensor.name for tensor in graph.initializer} | {tensor.values.name for tensor in graph.sparse_initializer}
    for node in graph.node:
        missing = next((name for name in node.input if name not in known), None)
        if missing is not None:
            raise RecipeError(
                f"{path} is damaged: {node.op_type} at {node.name or (node.output[0] if node.output else '')!r} reads "
                f"{missing!r}, which nothing before it makes.",
                "Export the model again.",
            )
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _check_order(inner, known, path)
        known.update(node.output)
    missing = next((value.name for value in graph.output if value.name not in known), None)
    if missing is not None:
        raise RecipeError(f"{path} is damaged: nothing makes its output {missing!r}.", "Export the model again.")


def _check_tensor(tensor: onnx.TensorProto, path: Path) -> None:
    size = math.prod(tensor.dims)
    if any(dim < 0 for dim in tensor.dims) or size > MAX_BYTES:
        raise RecipeError(f"{path} is damaged: the tensor {tensor.name!r} has the shape {list(tensor.dims)}.")
    external = _check_external(tensor, path) if uses_external_data(tensor) else None
    if tensor.data_type in _COMPLEX:
        raise UnsupportedError(
            f"{path} holds complex numbers in the tensor {tensor.name!r}, which no target computes with.",
            "Export it with real and imaginary parts as tensors of their own.",
        )
    if tensor.data_type not in _FLOAT_TYPES:
        return
    try:
        nan = any(bool(np.isnan(block).any()) for block in _blocks(tensor, external))
    except MemoryError:
        raise
    except Exception as error:  # sizes that contradict each other, in numpy's or onnx's words
        raise RecipeError(
            f"{path} is damaged: the tensor {tensor.name!r} cannot be read: {error}", "Export the model again."
        ) from error
    # Infinity is a legitimate constant (attention masks); NaN never is.
    if nan:
        raise UnsupportedError(
            f"{path} holds NaN in the tensor {tensor.name!r}.", "The training diverged: take an earlier checkpoint."
        )


def _blocks(tensor: onnx.TensorProto, external: _External | None) -> Iterator[npt.NDArray[Any]]:
    """Yield a tensor's numbers piece by piece: a gigabyte in a file beside the model takes no memory."""
    kind, count = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type)), math.prod(tensor.dims)
    if external is None and not tensor.HasField("raw_data"):
        yield numpy_helper.to_array(tensor).astype(np.float32, copy=False)
        return
    if external is not None:
        if external.size_bytes < count * kind.itemsize:
            raise ValueError(f"{external.size_bytes} bytes are too few for the shape {list(tensor.dims)}")
        with external.path.open("rb") as stream:
            stream.seek(external.offset)
            for at in range(0, count, _BLOCK):
                piece = stream.read(min(_BLOCK, count - at) * kind.itemsize)
                yield np.frombuffer(piece, kind).astype(np.float32, copy=False)
        return
    flat = np.frombuffer(tensor.raw_data, np.uint8)
    if flat.size != count * kind.itemsize:
        raise ValueError(f"{flat.size} bytes are not those of the shape {list(tensor.dims)}")
    for at in range(0, count, _BLOCK):
        yield flat.view(kind)[at : at + _BLOCK].astype(np.float32, copy=False)


def _check_external(tensor: onnx.TensorProto, path: Path) -> _External:
    try:
        info = ExternalDataInfo(tensor)
        offset, length = int(info.offset or 0), int(info.length or 0)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{path} is damaged: {tensor.name!r} has unreadable external data: {error}") from error
    folder = path.parent.resolve()
    data = (folder / info.location).resolve()
    if not data.is_relative_to(folder) or not info.location:
        raise UnsupportedError(
            f"{path} keeps its weights outside its folder, in {info.location!r}.", "Put the data file beside it."
        )
    if not data.is_file():
        raise RecipeError(f"{path} needs its data file {info.location!r}, which is missing.", "Copy both files.")
    if offset < 0 or length < 0 or offset + length > data.stat().st_size:
        raise RecipeError(f"{data} is shorter than {path.name} says (truncated?).", "Copy both files again.")
    return _External(data, offset, length or data.stat().st_size - offset)
