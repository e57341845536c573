"""Emit a quantized .tflite from a float one and a plan, with ai-edge-quantizer and without TensorFlow."""

from __future__ import annotations

import contextlib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import qtyping, quantizer, recipe_manager
from ai_edge_quantizer.utils import tfl_flatbuffer_utils

from edgekit.errors import StageError, UnsupportedError
from edgekit.quantize.plan import Plan

_BITS = 8
_WIDE_BITS = 16
_DYNAMIC_BITS = {"int8-dynamic": 8, "int4-dynamic": 4}
_NOTHING = 1e-9


def emit(float_tflite: bytes | Path, plan: Plan) -> bytes:
    """Apply the plan to a float .tflite; inputs and outputs of the model stay float32.

    Raises StageError when the plan is of another model or the quantizer refuses, UnsupportedError when an op
    cannot have the precision the plan gives it.
    """
    if plan.format != "tflite":
        raise StageError(f"this plan is for {plan.format}, not tflite")
    content = float_tflite.read_bytes() if isinstance(float_tflite, Path) else float_tflite
    rules = _rules(content, plan)
    if not rules:
        return content
    worker = quantizer.Quantizer(bytearray(content), rules)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):  # its progress bars
            warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors")  # its own check
            result = worker.quantize(
                _statistics(plan) if worker.need_calibration else None,
                enable_progress_bar=False,
                enable_progress_report=False,
            )
    except (ValueError, RuntimeError, KeyError) as error:
        raise StageError(f"the quantizer refused the plan: {error}") from error
    if result.quantized_model is None:
        raise StageError("the quantizer returned no model")
    return bytes(result.quantized_model)


def _rules(content: bytes, plan: Plan) -> Any:
    """Turn the plan into the quantizer's recipe: one entry per kind and precision, naming its ops exactly."""
    precision_of = {d.op: d.precision for d in plan.decisions if d.precision != "float32"}
    groups: dict[tuple[str, qtyping.TFLOperationName], list[str]] = {}
    for name, kind, scope in _operations(content):
        precision = precision_of.pop(name, "")
        if not precision:
            continue
        if kind is None:
            raise UnsupportedError(f"op '{name}' cannot be {precision}: the quantizer does not know its kind")
        groups.setdefault((precision, kind), []).append(scope)
    if precision_of:
        raise StageError(
            f"the plan names ops this model does not have: {', '.join(sorted(precision_of)[:3])}",
            "Make the plan from the same float model.",
        )
    manager = recipe_manager.RecipeManager()
    for (precision, kind), scopes in sorted(groups.items()):
        # Anchored alternatives: some tensor names are prefixes of others.
        _add(manager, precision, kind, "^(?:" + "|".join(map(re.escape, scopes)) + ")$")
    return manager.get_quantization_recipe()


def _add(manager: Any, precision: str, kind: qtyping.TFLOperationName, scopes: str) -> None:
    try:
        if precision == "int8":
            manager.add_static_config(scopes, kind, activation_num_bits=_BITS, weight_num_bits=_BITS)
        elif precision == "int16x8":
            manager.add_static_config(scopes, kind, activation_num_bits=_WIDE_BITS, weight_num_bits=_BITS)
        elif precision in _DYNAMIC_BITS:
            manager.add_dynamic_config(scopes, kind, num_bits=_DYNAMIC_BITS[precision])
        else:
            manager.add_weight_only_config(scopes, kind, num_bits=_BITS)
    except ValueError as error:
        raise UnsupportedError(f"{kind.value} cannot be {precision}: {error}") from error


def _operations(content: bytes) -> list[tuple[str, qtyping.TFLOperationName | None, str]]:
    """List the main graph's ops as (first output tensor, quantizer's kind, quantizer's scope)."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    main = model.subgraphs[0]
    found = []
    for op in main.operators:
        code = model.operatorCodes[op.opcodeIndex].builtinCode
        name = main.tensors[op.outputs[0]].name.decode() if len(op.outputs) else ""
        kind = tfl_flatbuffer_utils.TFL_OP_CODE_TO_NAME.get(code)
        found.append((name, kind, tfl_flatbuffer_utils.get_op_scope(op, main.tensors)))
    return found


def _statistics(plan: Plan) -> dict[str, dict[str, npt.NDArray[Any]]]:
    """Return the plan's ranges the way the quantizer stores calibration results."""
    return {
        name: {"min": np.array([[low]], np.float32), "max": np.array([[high]], np.float32)}
        for name, (low, high) in ((name, _with_scale(*bounds)) for name, bounds in plan.ranges.items())
    }


def _with_scale(low: float, high: float) -> tuple[float, float]:
    """Give a tensor that is always 0 the scale of 0..1: its own would be 0, and bias / 0 overflows."""
    return (0.0, 1.0) if max(abs(low), abs(high)) < _NOTHING else (low, high)
