"""Put what an application needs to know inside the model file, and describe the file beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

import edgekit
from edgekit.artifact import Artifact, TensorSpec
from edgekit.errors import StageError

KEY = "edgekit"
LAYOUTS = "layouts"  # inside the file: {input: [the source's layout, the file's]}, where they differ
_CHANNELS = (1, 3, 4)
_TFLITE_TYPES = {code: name.lower() for name, code in vars(schema.TensorType).items() if not name.startswith("_")}


def embed(model: bytes | Path, format: str, metadata: Mapping[str, Any]) -> bytes:
    """Return the model with ``metadata`` inside, as JSON under the key "edgekit"; an earlier one is replaced.

    The graph is untouched: outputs are bit-equal. Same input, same bytes.
    """
    content = model.read_bytes() if isinstance(model, Path) else model
    text = json.dumps(metadata, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _EMBED[format](content, text)


def read(model: bytes | Path, format: str) -> dict[str, Any]:
    """Return the metadata inside a model; {} when it has none. Raises StageError when it is damaged."""
    content = model.read_bytes() if isinstance(model, Path) else model
    text = _READ[format](content)
    if text is None:
        return {}
    try:
        data = json.loads(text)
    except ValueError as error:
        raise StageError(f"the metadata inside the model is damaged: {error}") from error
    if not isinstance(data, dict):
        raise StageError("the metadata inside the model is not a table")
    return data


def tensor_specs(model: bytes | Path, format: str) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Return the inputs and outputs of a model under their signature names, with layouts."""
    content = model.read_bytes() if isinstance(model, Path) else model
    inputs, outputs = _SPECS[format](content)
    return tuple(spec for spec, _ in inputs), tuple(spec for spec, _ in outputs)


def model_json(
    artifact: Artifact, *, labels: Sequence[str] = (), preprocess: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Describe one artifact for the manifest beside it.

    Per input and output: name, shape, dtype, layout, and scale and zero point where the file wants integers; also
    ``source_layout`` of an input that the model it was made from takes otherwise.
    """
    content = artifact.path.read_bytes()
    inputs, outputs = _SPECS[artifact.format](content)
    known = read(content, artifact.format).get(LAYOUTS)
    layouts = known if isinstance(known, dict) else {}
    return {
        "file": artifact.path.name,
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
        "format": artifact.format,
        "precision": artifact.precision,
        "inputs": [_tensor_json(*found) | _layouts(layouts.get(found[0].name)) for found in inputs],
        "outputs": [_tensor_json(*found) for found in outputs],
        "labels": list(labels),
        "preprocess": dict(preprocess or {}),
        "edgekit": edgekit.__version__,
    }


def layout_of(shape: Sequence[int]) -> str:
    """Name the layout of an image tensor: NHWC or NCHW by where 1, 3 or 4 channels stand; "" where unclear.

    Files converted from TensorFlow keep NHWC, also as ONNX: there a Transpose stands in front.
    """
    if len(shape) != 4:
        return ""
    last, first = shape[3] in _CHANNELS, shape[1] in _CHANNELS
    if last == first:
        return ""
    return "NHWC" if last else "NCHW"


_Quantization = dict[str, float | int] | None
_Described = list[tuple[TensorSpec, _Quantization]]


def _tensor_json(spec: TensorSpec, quantization: _Quantization) -> dict[str, Any]:
    return {
        "name": spec.name,
        "shape": list(spec.shape),
        "dtype": spec.dtype,
        "layout": spec.layout,
        "quantization": quantization,
    }


def _layouts(pair: Any) -> dict[str, str]:
    whole = isinstance(pair, list) and len(pair) == 2
    return {"layout": str(pair[1]), "source_layout": str(pair[0])} if whole else {}


def _embed_tflite(content: bytes, text: str) -> bytes:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    entries = [entry for entry in model.metadata or [] if entry.name.decode() != KEY]
    old = next((entry for entry in model.metadata or [] if entry.name.decode() == KEY), None)
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    if old is None:
        model.buffers.append(schema.BufferT())
        old = schema.MetadataT()
        old.name, old.buffer = KEY.encode(), len(model.buffers) - 1
    model.buffers[old.buffer].data = data
    model.metadata = [*entries, old]
    builder = _AlignedBuilder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class _AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Start weights at multiples of 16 bytes, as the schema demands and the plain builder forgets."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        return int(super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment))


def _read_tflite(content: bytes) -> str | None:
    model = schema.Model.GetRootAs(content, 0)
    for i in range(model.MetadataLength()):
        entry = model.Metadata(i)
        if entry.Name() == KEY.encode():
            return bytes(model.Buffers(entry.Buffer()).DataAsNumpy()).decode(errors="replace")
    return None


def _embed_onnx(content: bytes, text: str) -> bytes:
    proto = onnx.load_from_string(content)
    kept = {entry.key: entry.value for entry in proto.metadata_props if entry.key != KEY}
    onnx.helper.set_model_props(proto, {**kept, KEY: text})
    return bytes(proto.SerializeToString(deterministic=True))


def _read_onnx(content: bytes) -> str | None:
    proto = onnx.load_from_string(content)
    return next((entry.value for entry in proto.metadata_props if entry.key == KEY), None)


def _specs_tflite(content: bytes) -> tuple[_Described, _Described]:
    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    if model.SignatureDefsLength():
        entry = model.SignatureDefs(0)
        sides: list[list[tuple[str, int]]] = [
            [(m.Name().decode(), m.TensorIndex()) for m in (entry.Inputs(i) for i in range(entry.InputsLength()))],
            [(m.Name().decode(), m.TensorIndex()) for m in (entry.Outputs(i) for i in range(entry.OutputsLength()))],
        ]
    else:
        indices = (graph.InputsAsNumpy(), graph.OutputsAsNumpy())
        sides = [[(graph.Tensors(int(i)).Name().decode(), int(i)) for i in side] for side in indices]
    described = [[_describe_tflite(name, graph.Tensors(index)) for name, index in side] for side in sides]
    return described[0], described[1]


def _describe_tflite(name: str, tensor: Any) -> tuple[TensorSpec, _Quantization]:
    shape = tuple(int(size) for size in tensor.ShapeAsNumpy()) if tensor.ShapeLength() else ()
    parameters = tensor.Quantization()
    quantization: _Quantization = None
    if parameters is not None and parameters.ScaleLength():
        quantization = {"scale": float(parameters.Scale(0)), "zero_point": int(parameters.ZeroPoint(0))}
    return TensorSpec(name, shape, _TFLITE_TYPES[tensor.Type()], layout_of(shape)), quantization


def _specs_onnx(content: bytes) -> tuple[_Described, _Described]:
    graph = onnx.load_from_string(content).graph
    constants = {tensor.name for tensor in graph.initializer}
    return (
        [_describe_onnx(value) for value in graph.input if value.name not in constants],
        [_describe_onnx(value) for value in graph.output],
    )


def _describe_onnx(value: onnx.ValueInfoProto) -> tuple[TensorSpec, _Quantization]:
    kind = value.type.tensor_type
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim)
    dtype = str(np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)))
    return TensorSpec(value.name, shape, dtype, layout_of(shape)), None


_EMBED = {"tflite": _embed_tflite, "onnx": _embed_onnx}
_READ = {"tflite": _read_tflite, "onnx": _read_onnx}
_SPECS = {"tflite": _specs_tflite, "onnx": _specs_onnx}
