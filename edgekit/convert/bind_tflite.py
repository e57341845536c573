"""Give a TFLite file's open sizes the numbers it is to run at, before anything else is done with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.tools import flatbuffer_utils

from edgekit.convert.finish import reference_of
from edgekit.convert.hand_off import check_parity
from edgekit.errors import UnsupportedError
from edgekit.progress import Progress
from edgekit.source.tflite_file import entries, read_model, tensor_names

_TOLERANCE = 1e-4


def run(*, out: Path, progress: Progress, model: Path, shapes: dict[str, list[int]]) -> dict[str, Any]:
    """Write ``model.tflite`` with ``shapes``, in which every tensor has the size it has in a run at them.

    Raises UnsupportedError where the network does not run at that size.
    """
    progress(0.1, "fixing the sizes")
    objects = read_model(model)
    main, names = objects.subgraphs[0], tensor_names(objects)
    at = {names[index]: int(index) for index in entries(main.inputs)}
    fixed = {at[name]: shape for name, shape in shapes.items()}
    try:
        interpreter, inputs, outputs = _resized(model, fixed)
    except (ValueError, RuntimeError) as error:
        raise UnsupportedError(
            f"{model.name} does not run at this size: {str(error).strip()}",
            "Choose a size it was made for; many networks need multiples of 32.",
        ) from error
    sizes = {int(detail["index"]): detail["shape"] for detail in interpreter.get_tensor_details()}
    for index, tensor in enumerate(main.tensors):
        weights = objects.buffers[tensor.buffer].data if tensor.buffer else None
        if (weights is None or not len(weights)) and index in sizes:
            tensor.shape = np.asarray(sizes[index], np.int32)
            tensor.shapeSignature = None
    path = out / "model.tflite"
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(objects)))
    progress(0.5, "comparing with the source")
    named = {names[index]: array for index, array in inputs.items()}
    made = reference_of(path, "tflite", named)
    expected = dict(zip(made, outputs, strict=True))
    return {"parity_error": check_parity(path, "tflite", named, expected, _TOLERANCE, "fixed-size TFLite")}


def _resized(model: Path, fixed: Mapping[int, Sequence[int]]) -> tuple[Interpreter, dict[int, Any], list[Any]]:
    """Run the file once at these sizes; what tensors are made while it runs has its size only then."""
    interpreter = Interpreter(
        model_path=str(model), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )  # fmt: skip
    generator = np.random.default_rng(0)
    for index, shape in fixed.items():
        interpreter.resize_tensor_input(index, list(shape), strict=True)
    interpreter.allocate_tensors()
    inputs = {}
    for detail in interpreter.get_input_details():
        kind, shape = np.dtype(detail["dtype"]), [max(1, int(size)) for size in detail["shape"]]
        drawn = generator.random(shape) if kind.kind == "f" else generator.integers(0, 2, shape)
        inputs[int(detail["index"])] = drawn.astype(kind)
        interpreter.set_tensor(detail["index"], inputs[int(detail["index"])])
    interpreter.invoke()
    return interpreter, inputs, [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
