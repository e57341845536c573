"""Convert a batch-1 SavedModel to float TFLite; ``tflite_quantized`` emits int8 without TensorFlow."""

from __future__ import annotations

import re
from pathlib import Path

import tensorflow as tf

from edgekit.convert.float_graph import SIGNATURE
from edgekit.convert.tflite_names import canonical
from edgekit.errors import MissingOpsError, StageError


def float32(saved_model: Path) -> bytes:
    """Return the float32 .tflite; raises MissingOpsError naming the ops that have no TFLite builtin."""
    return _convert(_converter(saved_model))


def float16(saved_model: Path) -> bytes:
    """Return a .tflite with float16 weights and float32 inputs and outputs."""
    converter = _converter(saved_model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return _convert(converter)


def _converter(saved_model: Path) -> tf.lite.TFLiteConverter:
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[SIGNATURE])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return converter


def _convert(converter: tf.lite.TFLiteConverter) -> bytes:
    try:
        content = bytes(converter.convert())
    except Exception as error:  # the converter raises its own class, RuntimeError and ValueError alike
        text = str(error)
        ops = _unsupported_ops(text)
        if ops:
            raise MissingOpsError(
                f"TFLite has no builtin for: {', '.join(ops)}",
                "Replace these operations; Select-TF (Flex) ops do not run in the small runtimes.",
                ops,
            ) from error
        raise StageError(f"TFLite conversion failed: {text.strip().splitlines()[-1] if text else error!r}") from error
    return canonical(content)


def _unsupported_ops(message: str) -> list[str]:
    """Read the op names out of the converter's message (lines ``Flex ops: A, B``, ``Custom ops: C``)."""
    names: set[str] = set()
    for line in re.findall(r"(?:Flex|Custom) ops: ([^\n]+)", message):
        names.update(name.strip() for name in line.split(","))
    names.update(re.findall(r"'tf\.(\w+)' op is neither a custom op nor a flex op", message))
    return sorted(names)
