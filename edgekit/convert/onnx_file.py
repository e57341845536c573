"""Prepare float ONNX files: a user's own, and what the converter wrote. No TensorFlow here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnx.version_converter
import onnxslim  # type: ignore[import-untyped]
from onnxruntime.transformers.float16 import convert_float_to_float16

from edgekit.convert.lint import OLDEST_OPSET, OLDEST_READ
from edgekit.convert.onnx_fusions import fuse_global_average, fuse_hard_sigmoid
from edgekit.convert.onnx_names import canonical, sort_nodes
from edgekit.errors import EdgekitError, StageError, UnsupportedError

_RAISED_TO = 18  # what the Keras converter writes, so that all later steps are tested on it
_IR_WITH_FREE_INITIALIZERS = 8  # before 4, each had to be an input too, and the version converter would miss them


def from_onnx(path: Path, *, as_is: bool = False) -> bytes:
    """Return a user's .onnx checked, with batch 1, every shape and the weights inside; simplified unless ``as_is``.

    An opset below 13 is raised. Raises UnsupportedError for a dynamic dimension besides the batch or an opset that
    is too old, StageError for a file that is not valid ONNX.
    """
    try:
        proto = onnx.load(str(path))
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        raise StageError(f"{path.name} is not a valid ONNX file: {error}") from error
    except (EdgekitError, MemoryError):
        raise
    except Exception as error:
        raise StageError(f"{path.name} cannot be read as ONNX: {error}") from error
    version = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if version < OLDEST_OPSET:
        proto = _raised(proto, version, path.name, as_is)
    try:
        _fix_batch(proto)
        if as_is:
            return serialize(onnx.shape_inference.infer_shapes(proto, data_prop=True))
        return finish(proto)
    except (EdgekitError, MemoryError):
        raise
    except Exception as error:  # what onnx, onnxslim and their passes meet in a graph whose parts do not fit
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise StageError(
            f"{path.name} contradicts itself: {reason.strip()[:200]}", "Export the model again."
        ) from error


def _raised(proto: onnx.ModelProto, version: int, name: str, as_is: bool) -> onnx.ModelProto:
    """Return the model in an opset that later steps know. Raises UnsupportedError where that cannot be done."""
    least = OLDEST_OPSET if as_is else OLDEST_READ
    hint = "Export it again with a newer opset."
    if version < least:
        raise UnsupportedError(f"{name} uses opset {version}; at least {least} is needed", hint)
    proto.ir_version = max(proto.ir_version, _IR_WITH_FREE_INITIALIZERS)
    try:
        return onnx.version_converter.convert_version(proto, _RAISED_TO)
    except (onnx.version_converter.ConvertError, RuntimeError) as error:
        raise UnsupportedError(f"{name} uses opset {version}, which cannot be raised: {error}", hint) from error


def state_outputs(path: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """Write the outputs' ``shapes`` (-1: open) into a file where it leaves them open, in place.

    ONNX Runtime folds what of a graph is constant before it works out shapes, so it knows more than the file says.
    """
    proto = onnx.load(str(path))
    open_ones = [value for value in proto.graph.output if not _is_stated(value) and -1 not in shapes[value.name]]
    for value in open_ones:
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, list(shapes[value.name])))
    if open_ones:
        path.write_bytes(serialize(proto))


def _is_stated(value: onnx.ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)


def float16(content: bytes) -> bytes:
    """Return the model with float16 weights and computation; inputs and outputs stay float32."""
    proto = convert_float_to_float16(onnx.load_from_string(content), keep_io_types=True)
    sort_nodes(proto)
    onnx.checker.check_model(proto, full_check=True)
    return serialize(proto)


def finish(proto: onnx.ModelProto, rename: bool = False) -> bytes:
    """Simplify, infer shapes, name every node after its first output, check; returns deterministic bytes."""
    # A Gemm instead of MatMul + Add has no dynamic int8 form, and swallows whole matrices as its bias.
    slimmed = onnxslim.slim(proto, skip_fusion_patterns=["FusionGemm"])
    if slimmed is None:
        raise StageError("the ONNX graph could not be simplified")
    _separate_wide_bias(slimmed)
    fuse_hard_sigmoid(slimmed)
    fuse_global_average(slimmed)
    del slimmed.graph.value_info[:]
    if rename:
        canonical(slimmed)
    inferred = onnx.shape_inference.infer_shapes(slimmed, strict_mode=True, data_prop=True)
    for node in inferred.graph.node:
        node.name = next((name for name in node.output if name), node.name)
    inferred.producer_name, inferred.producer_version = "edgekit", ""
    inferred.doc_string = inferred.graph.doc_string = ""
    onnx.checker.check_model(inferred, full_check=True)
    return serialize(inferred)


def serialize(proto: onnx.ModelProto) -> bytes:
    """Return the same bytes for the same model; plain serialization may order map entries as it likes."""
    return bytes(proto.SerializeToString(deterministic=True))


def _fix_batch(proto: onnx.ModelProto) -> None:
    constants = {tensor.name for tensor in proto.graph.initializer}
    for value in proto.graph.input:
        if value.name in constants:
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                continue
            if axis:
                raise UnsupportedError(
                    f"dimension {axis} of input '{value.name}' has no size ({dim.dim_param or 'unknown'})",
                    "Small devices need fixed shapes: export the model with the size it will run at.",
                )
            dim.Clear()
            dim.dim_value = 1
    del proto.graph.value_info[:]
    for value in proto.graph.output:
        value.type.tensor_type.ClearField("shape")


def _separate_wide_bias(proto: onnx.ModelProto) -> None:
    """Take a bias that is not a vector out of its Gemm, in place: no quantizer can scale it per channel."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    wide = [
        node
        for node in proto.graph.node
        if node.op_type == "Gemm"
        and len(node.input) == 3
        and (node.input[2] not in constants or len(constants[node.input[2]].dims) != 1)
        and next((a.f for a in node.attribute if a.name == "beta"), 1.0) == 1.0
    ]
    for node in wide:
        bias, output = node.input.pop(), node.output[0]
        node.output[0] = f"{output}_product"
        proto.graph.node.append(onnx.helper.make_node("Add", [node.output[0], bias], [output], output))
    sort_nodes(proto)
