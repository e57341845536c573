"""Write the weights of a float32 .tflite as float16, as TensorFlow's converter does: each behind a DEQUANTIZE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgekit import arrays
from edgekit.convert.hand_off import check_parity
from edgekit.convert.tflite_codes import index_of
from edgekit.progress import Progress
from edgekit.source.tflite_file import kind_of, read_model

_READERS = {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL"}
_LEAST = 64  # numbers: what a smaller tensor saves, its DEQUANTIZE costs
_TOLERANCE = 2e-2  # 11 bits of mantissa in every weight, summed over layers


def run(*, out: Path, progress: Progress, model: Path, reference: Path, inputs: Path) -> dict[str, Any]:
    """Write ``model.tflite`` with float16 weights; inputs, outputs and sums stay float32. Raises StageError."""
    progress(0.2, "writing float16 weights")
    path = out / "model.tflite"
    objects = read_model(model)
    narrow(objects)
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(objects)))
    progress(0.6, "comparing with the source")
    expected = arrays.load(reference)
    return {"parity_error": check_parity(path, "tflite", arrays.load(inputs), expected, _TOLERANCE, "float16 tflite")}


def narrow(model: Any) -> int:
    """Turn the weights of convolutions and products into float16, in place, and return how many.

    A weight that float16 cannot hold, or that another op reads too, stays what it is.
    """
    kinds = [kind_of(code) for code in model.operatorCodes]
    main, added = model.subgraphs[0], []
    readers: dict[int, set[str]] = {}
    for op in main.operators:
        for index in op.inputs:
            readers.setdefault(int(index), set()).add(kinds[op.opcodeIndex])
    for index, kinds_there in sorted(readers.items()):
        values = _weights(model, index) if index >= 0 and kinds_there <= _READERS else None
        if values is not None:
            added.append(_dequantize(model, index, values))
    main.operators = [*added, *main.operators]
    return len(added)


def _weights(model: Any, index: int) -> Any:
    tensor = model.subgraphs[0].tensors[index]
    data = model.buffers[tensor.buffer].data
    if tensor.type != schema.TensorType.FLOAT32 or data is None or len(data) < 4 * _LEAST:
        return None
    values = np.frombuffer(bytes(data), np.float32)
    largest = float(np.abs(values).max())
    return values.astype(np.float16) if largest <= np.finfo(np.float16).max else None


def _dequantize(model: Any, index: int, values: Any) -> Any:
    main, buffer, half = model.subgraphs[0], schema.BufferT(), schema.TensorT()
    wide = main.tensors[index]
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    model.buffers.append(buffer)
    half.name, half.shape, half.type = wide.name + b"_float16", wide.shape, schema.TensorType.FLOAT16
    half.buffer = len(model.buffers) - 1
    model.buffers[wide.buffer].data = None
    wide.buffer = 0
    main.tensors.append(half)
    op = schema.OperatorT()
    op.opcodeIndex = index_of(model, schema.BuiltinOperator.DEQUANTIZE, version=3)  # float16 came with it
    op.inputs, op.outputs = [len(main.tensors) - 1], [index]
    return op
