"""What only TensorFlow can tell of a model file. Runs in a child process."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from edgekit import keras_io
from edgekit.convert import float_graph, onnx, tflite
from edgekit.errors import MissingOpsError, StageError, UnsupportedError
from edgekit.inspection.network import Network, Op, Shape, Tensor, bits, elements, image_layout, times
from edgekit.progress import Progress

_SILENT = {"Const", "Placeholder", "Identity", "NoOp", "ReadVariableOp"}
_CONTROL = {"While", "StatelessWhile", "If", "StatelessIf", "Einsum", "Conv3D", "PartitionedCall"}


def keras_config(*, out: Path, progress: Progress, model: Path) -> dict[str, Any]:
    """Return the model's configuration as Keras 3 writes it, with the shape of every output by name."""
    progress(0.3, "loading the model")
    network = keras_io.load(model)
    names = float_graph.output_names(network) if float_graph.input_names(network) else []
    return {
        "config": keras.saving.serialize_keras_object(network),
        "outputs": {name: list(tensor.shape) for name, tensor in zip(names, network.outputs, strict=True)},
        "inputs": {tensor.name: list(tensor.shape) for tensor in network.inputs},
    }


def saved_model(*, out: Path, progress: Progress, model: Path, signature: str = "") -> dict[str, Any]:
    """Return the network of one signature, as JSON: its variables as constants, its functions inlined."""
    progress(0.3, "loading the SavedModel")
    loaded = tf.saved_model.load(str(model))
    chosen = float_graph.serving_signature(loaded.signatures, model, signature)
    progress(0.7, "reading the graph")
    frozen = convert_variables_to_constants_v2(chosen)
    wanted: dict[str, tf.TensorSpec] = chosen.structured_input_signature[1]
    by_node = {tensor.name: name for name, tensor in zip(sorted(wanted), _sorted_inputs(chosen), strict=False)}
    names = {tensor.name: by_node.get(tensor.name, tensor.name) for tensor in frozen.inputs}
    source = _through_identities(frozen.graph)
    ops, tensors, weights = [], {}, []
    for node in frozen.graph.get_operations():
        if node.type == "Const":
            weights.append((tuple(node.outputs[0].shape), node.outputs[0].dtype.name))
        for result in node.outputs:
            tensors[names.get(result.name, result.name)] = _tensor(names.get(result.name, result.name), result)
        if node.type in _SILENT:
            continue
        reads = [source(tensor) for tensor in node.inputs]
        ops.append(
            Op(
                node.type,
                node.name,
                tuple(names.get(t.name, t.name) for t in reads if t.op.type != "Const"),
                tuple(tensor.name for tensor in node.outputs),
                _macs(node.type, [_shape(t) for t in node.inputs], [_shape(t) for t in node.outputs]),
            )
        )
    inputs = [_tensor(names[t.name], t, is_input=True) for t in frozen.inputs if t.dtype != tf.resource]
    outputs = []
    for name, tensor in sorted(chosen.structured_outputs.items()):
        outputs.append(Tensor(name, _shape(tensor), tensor.dtype.name))
    floats = [(shape, kind) for shape, kind in weights if shape and kind.startswith(("float", "bfloat", "int8"))]
    network = Network(
        tuple(inputs),
        tuple(outputs),
        tuple(ops),
        tensors,
        sum(math.prod(shape) for shape, _ in floats),
        sum(math.prod(shape) * bits(kind) // 8 for shape, kind in weights if kind != "string"),
        version=f"signature {next((key for key, held in loaded.signatures.items() if held is chosen), signature)}",
    )
    return {"network": asdict(network), "signatures": sorted(loaded.signatures)}


def missing(*, out: Path, progress: Progress, model: Path, source: str, signature: str = "") -> dict[str, Any]:
    """Convert the model to both formats as a build would; return by format the ops that it lacks, with their places.

    Raises UnsupportedError where the model cannot be exported at all.
    """
    progress(0.2, "asking the converters")
    folder = out / "saved_model"
    if source == "saved_model":
        float_graph.resign(model, folder, signature)
    else:
        float_graph.export_keras(keras_io.load(model), folder)
    loaded = tf.saved_model.load(str(folder))
    places: dict[str, list[str]] = {}
    for node in convert_variables_to_constants_v2(loaded.signatures[float_graph.SIGNATURE]).graph.get_operations():
        places.setdefault(node.type, []).append(_layer(node.name))
    found: dict[str, Any] = {}
    for position, (format, convert) in enumerate((("tflite", tflite.float32), ("onnx", onnx.float32))):
        progress(0.4 + 0.3 * position, f"asking the converter to {format}")
        try:
            convert(folder)
        except MissingOpsError as error:
            found[format] = {"ops": {kind: places.get(kind, []) for kind in error.kinds}, "failure": ""}
        except (StageError, UnsupportedError) as error:
            found[format] = {"ops": {}, "failure": error.message}
    shutil.rmtree(folder)
    return found


def _layer(name: str) -> str:
    """Return the layer of a node: the calls and the model around it, and the op itself at the end, say nothing."""
    parts = [part for part in name.split("/") if not part.startswith(("StatefulPartitionedCall", "PartitionedCall"))]
    return "/".join(parts[1:-1] or parts)


def _sorted_inputs(chosen: Any) -> list[Any]:
    """Return the graph's own input tensors in the order of their argument names."""
    placed = {spec.name: spec for spec in chosen.inputs}
    wanted = sorted(chosen.structured_input_signature[1].items())
    found: list[Any] = []
    for name, spec in wanted:
        exact = [t for t in placed.values() if t.op.name == (spec.name or name) or t.op.name.endswith(f"_{name}")]
        found.append(exact[0] if exact else chosen.inputs[len(found)])
    return found


def _through_identities(graph: Any) -> Any:
    def source(tensor: Any) -> Any:
        while tensor.op.type == "Identity":
            tensor = tensor.op.inputs[0]
        return tensor

    return source


def _shape(tensor: Any) -> Shape | None:
    return None if tensor.shape.rank is None else tuple(tensor.shape.as_list())


def _tensor(name: str, tensor: Any, *, is_input: bool = False) -> Tensor:
    shape = _shape(tensor)
    layout = image_layout(shape) or ("NHWC" if is_input and shape is not None and len(shape) == 4 else "")
    return Tensor(name, shape, tensor.dtype.name, layout if is_input else "")


def _macs(kind: str, inputs: list[Shape | None], outputs: list[Shape | None]) -> int | None:
    result = elements(outputs[0]) if outputs else None
    weight = inputs[1] if len(inputs) > 1 else None
    if kind == "Conv2D":
        return times(result, *weight[:3]) if weight else None
    if kind == "DepthwiseConv2dNative":
        return times(result, *weight[:2]) if weight else None
    if kind == "Conv2DBackpropInput":
        return times(elements(inputs[2]), *weight[:3]) if weight and len(inputs) > 2 else None
    if kind in ("MatMul", "BatchMatMulV2", "BatchMatMulV3"):
        return times(result, inputs[0][-1]) if inputs[0] else None
    return None if kind in _CONTROL else 0
