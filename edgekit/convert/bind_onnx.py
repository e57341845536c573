"""Give an ONNX file's open sizes the numbers it is to run at, before anything else is done with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from edgekit.convert.finish import reference_of
from edgekit.convert.hand_off import check_parity
from edgekit.errors import EdgekitError, UnsupportedError
from edgekit.progress import Progress
from edgekit.runtimes import open_model
from edgekit.runtimes.agent import synthetic_inputs
from edgekit.source.onnx_file import dim_size

MOST_BYTES = 2_000_000_000  # protobuf serializes no more into one file
_TOLERANCE = 1e-4


def run(*, out: Path, progress: Progress, model: Path, shapes: dict[str, list[int]]) -> dict[str, Any]:
    """Write ``model.onnx``, weights inside, with ``shapes``; it computes what the file computes at that size.

    Raises UnsupportedError where the network does not run at that size.
    """
    progress(0.1, "fixing the sizes")
    proto = onnx.load(str(model))
    bind(proto, shapes)
    if proto.ByteSize() > MOST_BYTES:
        raise UnsupportedError(f"{model.name} holds more than 2 GB of weights, more than one ONNX file can.")
    path = out / "model.onnx"
    path.write_bytes(proto.SerializeToString(deterministic=True))
    progress(0.5, "comparing with the source")
    try:
        wanted = open_model(path, "onnx").inputs
        inputs = dict(zip((tensor["name"] for tensor in wanted), synthetic_inputs(wanted, 0), strict=True))
        expected = reference_of(model, "onnx", inputs)
    except EdgekitError as error:
        raise UnsupportedError(f"{model.name} does not run at this size: {error.message}", _OTHER) from error
    return {"parity_error": check_parity(path, "onnx", inputs, expected, _TOLERANCE, "fixed-size ONNX")}


def bind(proto: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> None:
    """Set the inputs' sizes in place; what bears the same symbol gets the same size."""
    symbols: dict[str, int] = {}
    values = {value.name: value for value in proto.graph.input}
    for name, shape in shapes.items():
        dims = values[name].type.tensor_type.shape.dim
        while len(dims) < len(shape):  # an unknown rank
            dims.add()
        for dim, size in zip(dims, shape, strict=True):
            if dim.dim_param:
                symbols[dim.dim_param] = size
            dim.dim_value = size
    constants = {tensor.name for tensor in proto.graph.initializer}
    for value in (*proto.graph.input, *proto.graph.output):
        for dim in value.type.tensor_type.shape.dim if value.name not in constants else ():
            if dim_size(dim) is None and dim.dim_param in symbols:
                dim.dim_value = symbols[dim.dim_param]
    del proto.graph.value_info[:]  # the sizes inside are worked out anew


_OTHER = "Choose a size it was made for; many networks need multiples of 32."
