"""Check a finished file against what a target refuses, without the target: a rule is a known rejection."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgekit.convert import lint_tensorrt
from edgekit.errors import RecipeError

OLDEST_OPSET = 13  # of a file that is shipped: per-channel DequantizeLinear
OLDEST_READ = 7  # of a user's float file: where onnx's own version converter begins
_FLOAT = schema.TensorType.FLOAT32
_INTEGER_INPUTS = (schema.TensorType.INT32, schema.TensorType.INT64)  # token ids: not quantized values


@dataclass(frozen=True)
class Finding:
    """One violation; ``where`` names the op or tensor. severity: error (the target refuses) or warning."""

    rule: str
    severity: str
    where: str
    message: str


Check = Callable[[Any, Mapping[str, float]], Iterator[tuple[str, str]]]


@dataclass(frozen=True)
class Rule:
    """A check per format, and how bad a violation is."""

    severity: str
    checks: Mapping[str, Check]


def lint(
    path: Path, format: str, rules: Sequence[str], limits: Mapping[str, float] | None = None,
    refuses: Sequence[str] = (),
) -> list[Finding]:  # fmt: skip
    """Check one model file. Rules that do not concern its format pass.

    ``limits``: size_bytes and opset_max, for the rules so named. ``refuses``: ONNX operators that the runtime lacks.
    Raises RecipeError for an unknown rule.
    """
    unknown = sorted(set(rules) - RULES.keys())
    if unknown:
        raise RecipeError(f"unknown lint rules: {', '.join(unknown)}", f"Known: {', '.join(sorted(RULES))}.")
    model = _LOADERS[format](path)
    found = []
    for name in rules:
        rule = RULES[name]
        check = rule.checks.get(format)
        if check is not None:
            bound = {"file_bytes": float(path.stat().st_size), **(limits or {})}
            found += [Finding(name, rule.severity, where, text) for where, text in check(model, bound)]
    if format == "onnx":
        lacking = [node for node in model.graph.node if node.op_type in refuses]
        found += [Finding("no_such_op", "error", node.name, f"there is no {node.op_type} there") for node in lacking]
    return found


def _float_io(model: Any, _: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    main = model.subgraphs[0]
    for side, indices in (("input", main.inputs), ("output", main.outputs)):
        allowed = (_FLOAT, *_INTEGER_INPUTS)
        for index in indices:
            tensor = main.tensors[index]
            if tensor.type not in allowed:
                yield tensor.name.decode(), f"this {side} is not float32: LiteRT.js does not load the model"


def _tflite_builtins(model: Any, _: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    for code in model.operatorCodes:
        if max(code.builtinCode, code.deprecatedBuiltinCode) == schema.BuiltinOperator.CUSTOM:
            name = (code.customCode or b"without a name").decode()
            yield name, "not a TFLite builtin: small runtimes have no kernel for it"


def _onnx_builtins(proto: Any, _: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    for node in proto.graph.node:
        if node.domain not in ("", "ai.onnx"):
            yield node.name or node.op_type, f"{node.domain}.{node.op_type} is not a standard ONNX op"


def _tflite_static(model: Any, _: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    main = model.subgraphs[0]
    for index in (*main.inputs, *main.outputs):
        tensor = main.tensors[index]
        signature = tensor.shapeSignature if tensor.shapeSignature is not None else []
        if any(size < 0 for size in signature):
            yield tensor.name.decode(), f"has a dynamic shape {[int(size) for size in signature]}"


def _onnx_static(proto: Any, _: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    for value in (*proto.graph.input, *proto.graph.output):
        dims = value.type.tensor_type.shape.dim
        if any(not dim.HasField("dim_value") or dim.dim_value <= 0 for dim in dims):
            yield value.name, f"has a dynamic shape {[dim.dim_param or dim.dim_value for dim in dims]}"


def _no_external_data(proto: Any, _: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    for tensor in proto.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield tensor.name, "its data is in another file, which does not travel with the model"


def _opset(proto: Any) -> int:
    return next((int(entry.version) for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _opset_min(proto: Any, _: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    if _opset(proto) < OLDEST_OPSET:
        yield "opset", f"{_opset(proto)} is too old: per-channel DequantizeLinear came with {OLDEST_OPSET}"


def _opset_max(proto: Any, limits: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    if _opset(proto) > limits.get("opset_max", float("inf")):
        yield "opset", f"{_opset(proto)} is newer than the target's {limits['opset_max']:g}"


def _size(_: Any, limits: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    if limits["file_bytes"] > limits.get("size_bytes", float("inf")):
        yield "file", f"{limits['file_bytes']:.0f} bytes, the target allows {limits['size_bytes']:.0f}"


def _without_limits(check: Callable[[Any], Iterator[tuple[str, str]]]) -> Check:
    return lambda model, _: check(model)


def _load_tflite(path: Path) -> Any:
    return flatbuffer_utils.read_model(str(path))


def _load_onnx(path: Path) -> Any:
    return onnx.load(str(path), load_external_data=False)


_LOADERS = {"tflite": _load_tflite, "onnx": _load_onnx}

RULES: dict[str, Rule] = {
    "tflite_float_io": Rule("error", {"tflite": _float_io}),
    "builtin_ops_only": Rule("error", {"tflite": _tflite_builtins, "onnx": _onnx_builtins}),
    "static_shapes": Rule("error", {"tflite": _tflite_static, "onnx": _onnx_static}),
    "no_external_data": Rule("error", {"onnx": _no_external_data}),
    "opset_min_13": Rule("error", {"onnx": _opset_min}),
    "opset_max": Rule("error", {"onnx": _opset_max}),
    "size_bytes": Rule("error", {"tflite": _size, "onnx": _size}),
    **{name: Rule("error", {"onnx": _without_limits(check)}) for name, check in lint_tensorrt.CHECKS.items()},
}
