"""Store the weights of a .tflite without their zeros, and put them back: the same numbers in a smaller file.

The runtime knows sparse weights as a tensor with SparsityParameters (schema.fbs) that a DENSIFY op unpacks once,
when the file is loaded; what it computes and how fast is as before. One dimension is compressed (CSR), the others
are dense. Source of the layout: tensorflow/lite/schema/schema.fbs, "Parameters for converting a dense tensor".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgekit.convert.tflite_codes import index_of
from edgekit.errors import StageError

Array = npt.NDArray[Any]

_Op, _Type = schema.BuiltinOperator, schema.TensorType
_TYPES: dict[int, np.dtype[Any]] = {
    _Type.FLOAT32: np.dtype("<f4"),
    _Type.FLOAT16: np.dtype("<f2"),
    _Type.INT8: np.dtype("i1"),
}
# What LiteRT 2.3.0 loads: (kind, type of the weights, type of the activations) -> which input. Unpacked int8
# weights of dense ops, and of convolutions of float activations, it refuses: "failed to delegate".
_ACCEPTED = {
    (_Op.CONV_2D, _Type.FLOAT32, _Type.FLOAT32): 1,
    (_Op.FULLY_CONNECTED, _Type.FLOAT32, _Type.FLOAT32): 1,
    (_Op.CONV_2D, _Type.INT8, _Type.INT8): 1,
    (_Op.DEQUANTIZE, _Type.FLOAT16, _Type.FLOAT16): 0,
}
_VECTORS = (
    (schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT, np.dtype("u1")),
    (schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT, np.dtype("<u2")),
    (schema.SparseIndexVector.Int32Vector, schema.Int32VectorT, np.dtype("<i4")),
)
_OVERHEAD_BYTES = 512  # tensor, op and tables of one encoded weight


@dataclass(frozen=True)
class _Csr:
    """``order``: the dimensions outermost first; only the last one, of ``order``, is compressed."""

    order: tuple[int, ...]
    values: Array
    segments: Array
    indices: Array

    def size_bytes(self) -> int:
        return sum(part.nbytes for part in (self.values, *map(_narrowed, (self.segments, self.indices))))


def encode(content: bytes) -> tuple[bytes, list[str]]:
    """Return the file with sparse weights wherever that is smaller, and the names of these weights.

    Without any, the file comes back as it is.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    encoded = [name for graph in model.subgraphs for name in _encode_graph(model, graph)]
    return (bytes(flatbuffer_utils.convert_object_to_bytearray(model)), encoded) if encoded else (content, [])


def decode(content: bytes) -> bytes:
    """Return the file with all weights dense and no DENSIFY op; a file without sparse weights as it is."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    done = sum(_decode_graph(model, graph) for graph in model.subgraphs)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model)) if done else content


def dense_file(path: Path, folder: Path) -> Path:
    """Return the file itself, or where weights are sparse a dense copy in ``folder``: for who reads weights.

    Raises StageError where the sparse form is damaged.
    """
    content = path.read_bytes()
    try:
        dense = decode(content)
    except (ValueError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise StageError(f"{path.name} is not a readable .tflite file: {error}") from error
    if dense is content:
        return path
    copy = folder / f"{path.stem}.dense.tflite"
    copy.write_bytes(dense)
    return copy


def _encode_graph(model: Any, graph: Any) -> list[str]:
    operators, names = [], []
    for op in graph.operators:
        position = _weights_of(model, graph, op)
        if position is not None:
            index = op.inputs[position]
            tensor = graph.tensors[index]
            array = model.buffers[tensor.buffer].data.view(_TYPES[tensor.type]).reshape(tensor.shape)
            csr = _smallest(array)
            if csr.size_bytes() + _OVERHEAD_BYTES < array.nbytes:
                graph.tensors.append(_dense_twin(tensor))
                _store(model, tensor, csr)
                op.inputs[position] = len(graph.tensors) - 1
                operators.append(_densify(model, index, op.inputs[position]))
                names.append(tensor.name.decode())
        operators.append(op)
    graph.operators = operators
    return names


def _weights_of(model: Any, graph: Any, op: Any) -> int | None:
    """Return which input of an op are weights of its own that may be sparse; None where there are none."""
    types = [graph.tensors[index].type for index in op.inputs[:2]]
    position = _ACCEPTED.get((_code(model, op), types[-1], types[0])) if types else None
    if position is None:
        return None
    tensor = graph.tensors[op.inputs[position]]
    data = model.buffers[tensor.buffer].data
    users = sum(list(other.inputs).count(op.inputs[position]) for other in graph.operators)
    owners = sum(other.buffer == tensor.buffer for sub in model.subgraphs for other in sub.tensors)
    usable = tensor.sparsity is None and data is not None and len(data) > 0
    return position if usable and users == 1 and owners == 1 else None


def _smallest(array: Array) -> _Csr:
    """Compress along the dimension that leaves the least to store."""
    last = array.ndim - 1
    orders = [(*(d for d in range(array.ndim) if d != inner), inner) for inner in (last, 0)]
    return min((_csr(array, order) for order in orders), key=_Csr.size_bytes)


def _csr(array: Array, order: tuple[int, ...]) -> _Csr:
    rows = array.transpose(order).reshape(-1, array.shape[order[-1]])
    kept = rows != 0
    segments = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    return _Csr(order, rows[kept], segments, np.nonzero(kept)[1])


def _store(model: Any, tensor: Any, csr: _Csr) -> None:
    parameters = schema.SparsityParametersT()
    parameters.traversalOrder = list(csr.order)
    parameters.dimMetadata = []
    for dimension in csr.order:
        part = schema.DimensionMetadataT()
        part.format, part.denseSize = schema.DimensionType.DENSE, int(tensor.shape[dimension])
        parameters.dimMetadata.append(part)
    part = parameters.dimMetadata[-1]
    part.format, part.denseSize = schema.DimensionType.SPARSE_CSR, 0
    part.arraySegmentsType, part.arraySegments = _vector(csr.segments)
    part.arrayIndicesType, part.arrayIndices = _vector(csr.indices)
    tensor.sparsity = parameters
    model.buffers[tensor.buffer].data = np.frombuffer(np.ascontiguousarray(csr.values).tobytes(), np.uint8)


def _vector(numbers: Array) -> tuple[int, Any]:
    kind = _kind(numbers)
    vector = kind[1]()
    vector.values = numbers.astype(kind[2])
    return kind[0], vector


def _narrowed(numbers: Array) -> Array:
    return numbers.astype(_kind(numbers)[2])


def _kind(numbers: Array) -> tuple[int, Any, np.dtype[Any]]:
    largest = int(numbers.max(initial=0))
    return next(kind for kind in _VECTORS if largest <= np.iinfo(kind[2]).max)


def _dense_twin(tensor: Any) -> Any:
    twin = schema.TensorT()
    twin.shape, twin.type, twin.quantization = tensor.shape, tensor.type, tensor.quantization
    twin.name = tensor.name + b"/dense"
    twin.buffer = 0
    return twin


def _densify(model: Any, source: int, target: int) -> Any:
    op = schema.OperatorT()
    op.inputs, op.outputs = [source], [target]
    op.opcodeIndex = index_of(model, schema.BuiltinOperator.DENSIFY)
    op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.DensifyOptions, schema.DensifyOptionsT()
    return op


def _code(model: Any, op: Any) -> int:
    code = model.operatorCodes[op.opcodeIndex]
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def _decode_graph(model: Any, graph: Any) -> int:
    twins = {
        op.outputs[0]: op.inputs[0]
        for op in graph.operators
        if _code(model, op) == _Op.DENSIFY and _is_csr(graph.tensors[op.inputs[0]])
    }
    for index in twins.values():
        tensor = graph.tensors[index]
        dense = _dense_array(model, tensor)
        model.buffers[tensor.buffer].data = np.frombuffer(dense.tobytes(), np.uint8)
        tensor.sparsity = None
    kept = [op for op in graph.operators if op.outputs[0] not in twins]
    for op in kept:
        op.inputs = [twins.get(index, index) for index in op.inputs]
    graph.operators = kept
    return len(twins)


def _is_csr(tensor: Any) -> bool:
    """Say whether a sparse tensor has the layout of ``encode``; TensorFlow's converter writes blocks too."""
    parts = [] if tensor.sparsity is None else list(tensor.sparsity.dimMetadata)
    formats = [part.format for part in parts]
    dense, csr = schema.DimensionType.DENSE, schema.DimensionType.SPARSE_CSR
    return tensor.type in _TYPES and formats == [dense] * (len(tensor.shape) - 1) + [csr]


def _dense_array(model: Any, tensor: Any) -> Array:
    """Unpack one weight that has the layout of ``encode``."""
    parameters = tensor.sparsity
    order, part = tuple(parameters.traversalOrder), parameters.dimMetadata[-1]
    shape = tuple(int(tensor.shape[dimension]) for dimension in order)
    segments = np.asarray(part.arraySegments.values, np.int64)
    rows = np.repeat(np.arange(len(segments) - 1), np.diff(segments))
    dense: Array = np.zeros((len(segments) - 1, int(shape[-1])), _TYPES[tensor.type])
    dense[rows, np.asarray(part.arrayIndices.values, np.int64)] = model.buffers[tensor.buffer].data.view(dense.dtype)
    return np.ascontiguousarray(dense.reshape(shape).transpose(np.argsort(order)))
