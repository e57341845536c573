"""Convert a batch-1 SavedModel to float ONNX, and prepare a user's own ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxslim  # type: ignore[import-untyped]
import tf2onnx
import tf2onnx.convert
from onnxruntime.transformers.float16 import convert_float_to_float16
from tf2onnx import tf_loader
from tf2onnx.handler import tf_op

from edgekit.convert.float_graph import SIGNATURE
from edgekit.convert.onnx_names import canonical, sort_nodes
from edgekit.errors import StageError, UnsupportedError

OPSET = 18  # the newest tf2onnx writes; per-channel DequantizeLinear needs 13
OLDEST_OPSET = 13


@tf_op("Erfc")
class _ComplementaryError:
    """Write Erfc as 1 - Erf: TensorFlow's GELU uses it, ONNX has no such op and tf2onnx lets it through."""

    @classmethod
    def version_9(cls, context: Any, node: Any, **_: Any) -> None:
        source, name = node.input[0], node.name
        dtype, shape = context.get_dtype(node.output[0]), context.get_shape(node.output[0])
        context.remove_node(name)
        erf = context.make_node("Erf", [source], shapes=[shape], dtypes=[dtype])
        one = context.make_const(
            tf2onnx.utils.make_name("one"), np.array(1, tf2onnx.utils.map_onnx_to_numpy_type(dtype))
        )
        context.make_node(
            "Sub",
            [one.output[0], erf.output[0]],
            name=name,
            outputs=node.output,
            shapes=[shape],
            dtypes=[dtype],
        )


def float32(saved_model: Path, opset: int = OPSET) -> bytes:
    """Return the float32 .onnx, simplified, with exactly the signature's inputs and outputs.

    Inputs keep TensorFlow's layout (images NHWC). Raises UnsupportedError naming ops that ONNX does not have.
    """
    tf2onnx.utils.INTERNAL_NAME = 1  # a counter in every generated name: two conversions must agree
    graph_def, inputs, outputs, renames = tf_loader.from_saved_model(
        str(saved_model), None, None, tag="serve", signatures=[SIGNATURE], return_tensors_to_rename=True
    )
    proto, _ = tf2onnx.convert._convert_common(
        graph_def,
        name="edgekit",
        opset=opset,
        input_names=inputs,
        output_names=outputs,
        tensors_to_rename=renames,
    )
    _check_ops(proto)
    _check_signature(proto, {renames[name] for name in inputs}, {renames[name] for name in outputs})
    return finish(proto, rename=True)


def from_onnx(path: Path) -> bytes:
    """Return a user's .onnx checked, with batch 1 and every shape inferred, simplified, weights inside.

    Raises UnsupportedError for a dynamic dimension besides the batch, an opset below 13 or quantized content,
    StageError for a file that is not valid ONNX.
    """
    try:
        proto = onnx.load(str(path))
        onnx.checker.check_model(proto)
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        raise StageError(f"{path.name} is not a valid ONNX file: {error}") from error
    except Exception as error:
        raise StageError(f"{path.name} cannot be read as ONNX: {error}") from error
    version = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if version < OLDEST_OPSET:
        raise UnsupportedError(
            f"{path.name} uses opset {version}; at least {OLDEST_OPSET} is needed",
            "Export it again with a newer opset, or raise it with onnx.version_converter.",
        )
    _fix_batch(proto)
    return finish(proto)


def float16(content: bytes) -> bytes:
    """Return the model with float16 weights and computation; inputs and outputs stay float32."""
    proto = convert_float_to_float16(onnx.load_from_string(content), keep_io_types=True)
    sort_nodes(proto)
    onnx.checker.check_model(proto, full_check=True)
    return serialize(proto)


def finish(proto: onnx.ModelProto, rename: bool = False) -> bytes:
    """Simplify, infer shapes, name every node after its first output, check; returns deterministic bytes."""
    slimmed = onnxslim.slim(proto)
    if slimmed is None:
        raise StageError("the ONNX graph could not be simplified")
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


def _check_ops(proto: onnx.ModelProto) -> None:
    """Refuse ops that are not ONNX: tf2onnx passes what it does not know through without a word."""
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    foreign = sorted({node.op_type for node in proto.graph.node if node.domain or node.op_type not in known})
    if foreign:
        raise UnsupportedError(
            f"ONNX has no op for: {', '.join(foreign)}",
            "Replace these operations in the model by standard ones.",
        )


def _check_signature(proto: onnx.ModelProto, inputs: set[str], outputs: set[str]) -> None:
    found_inputs = {value.name for value in proto.graph.input}
    found_outputs = {value.name for value in proto.graph.output}
    if found_inputs != inputs or found_outputs != outputs:
        raise StageError(
            f"the ONNX file has inputs {sorted(found_inputs)} and outputs {sorted(found_outputs)}, "
            f"the model has {sorted(inputs)} and {sorted(outputs)}"
        )


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
