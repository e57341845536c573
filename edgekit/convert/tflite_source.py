"""The convert stage for a user's TFLite file, which is a float graph already. No TensorFlow here."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgekit.artifact import TensorSpec
from edgekit.convert.finish import reference_of
from edgekit.convert.hand_off import check_parity, parity_inputs, save
from edgekit.convert.tflite_fusions import fuse_activations
from edgekit.convert.tflite_products import connect
from edgekit.errors import StageError, UnsupportedError
from edgekit.progress import Progress
from edgekit.runtimes import open_model
from edgekit.source.tflite_file import custom_names, entries, kind_of, read_model, tensor_names, text_of

_SIGNATURE = "serving_default"
_FLOAT16, _FLOAT32 = schema.TensorType.FLOAT16, schema.TensorType.FLOAT32


def run(
    *, out: Path, progress: Progress, model: Path, dataset: dict[str, Any], samples: int, as_is: bool = False
) -> dict[str, Any]:
    """Take a user's TFLite file as the float model: write ``model.tflite`` with batch 1 and float32 weights.

    ``as_is``: it is quantized already, so its weights stay what they are. Raises UnsupportedError for an input
    without a size, and where the runtime has none of its custom operators.
    """
    progress(0.1, "reading the TFLite file")
    content = model.read_bytes()
    objects = read_model(model)
    changed = _fix_batch(objects)
    changed |= not as_is and widen(objects)
    changed |= not as_is and _sign(objects)
    changed |= not as_is and _tell_apart(objects)
    changed |= not as_is and _name_codes(objects)
    changed |= not as_is and fuse_activations(objects)
    changed |= not as_is and connect(objects)
    if changed:
        content = bytes(flatbuffer_utils.convert_object_to_bytearray(objects))
    (out / "model.tflite").write_bytes(content)
    session = _opened(out / "model.tflite", custom_names(objects))
    specs = tuple(TensorSpec(i["name"], tuple(i["shape"]), i["dtype"]) for i in session.inputs)
    inputs = parity_inputs(dataset, specs, samples)
    outputs = reference_of(model, "tflite", inputs)  # the untouched source, in its runtime
    save(out, inputs, outputs)
    error = check_parity(out / "model.tflite", "tflite", inputs, outputs, 1e-4, "batch-1 TFLite")
    return {"warnings": [], "parameters": None, "parity_error": error}


def widen(model: Any) -> bool:
    """Turn float16 weights behind a DEQUANTIZE into float32 ones, in place; the numbers stay the same.

    Quantizers look for the weights right at the op that uses them. Returns whether there were any.
    """
    kinds = [kind_of(code) for code in model.operatorCodes]
    narrow: list[Any] = []
    for graph in model.subgraphs:
        kept = []
        for op in graph.operators or []:
            source = graph.tensors[op.inputs[0]] if kinds[op.opcodeIndex] == "DEQUANTIZE" else None
            data = model.buffers[source.buffer].data if source is not None and source.type == _FLOAT16 else None
            if data is None or not len(data):
                kept.append(op)
                continue
            weights = np.frombuffer(bytes(data), np.float16).astype(np.float32)
            wide, result = schema.BufferT(), graph.tensors[op.outputs[0]]
            wide.data = np.frombuffer(weights.tobytes(), np.uint8)
            model.buffers.append(wide)
            result.buffer, result.type = len(model.buffers) - 1, _FLOAT32
            narrow.append(source)
        graph.operators = kept
    for tensor in narrow:  # nobody reads them any more
        model.buffers[tensor.buffer].data = None
    for tensor in narrow:
        tensor.buffer = 0
    return bool(narrow)


def _sign(model: Any) -> bool:
    """Give the file the signature that quantizers look for, in place; returns whether there was none."""
    if any((text_of(signature.signatureKey)) == _SIGNATURE for signature in entries(model.signatureDefs)):
        return False
    main, names = model.subgraphs[0], tensor_names(model)
    default = schema.SignatureDefT()
    default.signatureKey, default.subgraphIndex = _SIGNATURE.encode(), 0
    default.inputs = [_named(names[index], index) for index in entries(main.inputs)]
    default.outputs = [_named(names[index], index) for index in entries(main.outputs)]
    model.signatureDefs = [default]
    return True


def _tell_apart(model: Any) -> bool:
    """Give tensors of one name, in whichever subgraph, a number each, in place: quantizers know them by name."""
    known: set[str] = set()
    changed = False
    for graph in model.subgraphs:
        for index, tensor in enumerate(graph.tensors):
            name = text_of(tensor.name)
            if name in known or not name:
                number = next(n for n in count(index) if f"{name}#{n}" not in known)
                name, changed = f"{name}#{number}", True
                tensor.name = name.encode()
            known.add(name)
    return changed


def _name_codes(model: Any) -> bool:
    """Write the code of each op where it stands today: quantizers take the files of old converters for ADDs alone."""
    old = [code for code in model.operatorCodes if code.builtinCode < code.deprecatedBuiltinCode]
    for code in old:
        code.builtinCode = code.deprecatedBuiltinCode
    return bool(old)


def _named(name: str, index: int) -> Any:
    entry = schema.TensorMapT()
    entry.name, entry.tensorIndex = name.encode(), index
    return entry


def _fix_batch(model: Any) -> bool:
    """Make an open batch 1, in place; returns whether there was one."""
    main, changed = model.subgraphs[0], False
    for index in main.inputs:
        tensor = main.tensors[index]
        open_axes = [axis for axis, size in enumerate(_list(tensor.shapeSignature)) if size < 0]
        if any(open_axes):
            name = tensor.name.decode("utf-8", "replace")
            raise UnsupportedError(
                f"dimension {max(open_axes)} of input '{name}' has no size",
                "Small devices need fixed shapes: convert the model with the size it will run at.",
            )
    for tensor in main.tensors:
        if any(size < 0 for size in _list(tensor.shapeSignature)):
            tensor.shapeSignature = None
            changed = True
    return changed


def _opened(path: Path, custom: tuple[str, ...]) -> Any:
    try:
        return open_model(path, "tflite")
    except StageError as error:
        if not custom:
            raise
        raise UnsupportedError(
            f"LiteRT has no kernel for the custom operators {', '.join(custom)}: {error.message}",
            "Convert the model again with TFLite's builtins only.",
        ) from error


def _list(values: Any) -> list[int]:
    return [] if values is None else [int(value) for value in values]
