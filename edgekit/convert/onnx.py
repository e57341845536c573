"""Convert a batch-1 SavedModel to float ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tf2onnx
import tf2onnx.convert
from tf2onnx import tf_loader
from tf2onnx.handler import tf_op

from edgekit.convert.float_graph import SIGNATURE
from edgekit.convert.onnx_file import finish, float16
from edgekit.errors import MissingOpsError, StageError

__all__ = ["OPSET", "float16", "float32"]

# Per-channel DequantizeLinear needs 13. From 18 on, reductions take their axes as an input, which TensorRT 8 (Jetson
# Nano) overlooks: it reduces over all axes.
OPSET = 17


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

    Inputs keep TensorFlow's layout (images NHWC). Raises MissingOpsError naming ops that ONNX does not have.
    """
    tf2onnx.utils.INTERNAL_NAME = 1  # a counter in every generated name: two conversions must agree
    graph_def, inputs, outputs, renames = tf_loader.from_saved_model(
        str(saved_model), None, None, tag="serve", signatures=[SIGNATURE], return_tensors_to_rename=True
    )
    try:
        proto, _ = tf2onnx.convert._convert_common(
            graph_def,
            name="edgekit",
            opset=opset,
            input_names=inputs,
            output_names=outputs,
            tensors_to_rename=renames,
        )
    except Exception as error:  # its handlers raise whatever they meet
        raise StageError(f"ONNX conversion failed: {error}") from error
    _check_ops(proto)
    _check_signature(proto, {renames[name] for name in inputs}, {renames[name] for name in outputs})
    return finish(proto, rename=True)


def _check_ops(proto: onnx.ModelProto) -> None:
    """Refuse ops that are not ONNX: tf2onnx passes what it does not know through without a word."""
    known = {schema.name for schema in onnx.defs.get_all_schemas()}
    foreign = sorted({node.op_type for node in proto.graph.node if node.domain or node.op_type not in known})
    if foreign:
        raise MissingOpsError(
            f"ONNX has no op for: {', '.join(foreign)}",
            "Replace these operations in the model by standard ones.",
            foreign,
        )


def _check_signature(proto: onnx.ModelProto, inputs: set[str], outputs: set[str]) -> None:
    found_inputs = {value.name for value in proto.graph.input}
    found_outputs = {value.name for value in proto.graph.output}
    if found_inputs != inputs or found_outputs != outputs:
        raise StageError(
            f"the ONNX file has inputs {sorted(found_inputs)} and outputs {sorted(found_outputs)}, "
            f"the model has {sorted(inputs)} and {sorted(outputs)}"
        )
