"""Where a quantized file spends its time, by the names that runtimes give their kernels, and why that is slow.

Each op is of at most one kind of slowness; a cause is what was measured, not what the file promises.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from edgekit.report.schema import Latency, OpTime

# Kernel names as XNNPACK, the LiteRT interpreter and ONNX Runtime spell them.
_FLOAT_KERNEL = re.compile(r"\b(F16|F32|FP16|FP32|float16|float32)\b", re.IGNORECASE)
_CONVERSIONS = re.compile(r"\b(de)?quantize(linear)?\b|\bconvert\b", re.IGNORECASE)
_AT_EVERY_CALL = re.compile(r"\bQDU?8\b|\bDynamicQuantize|\b(Conv|MatMul)Integer")
_INTERPRETER = re.compile(r"[A-Z][A-Z0-9_]+")  # LiteRT's own kernels bear the op's name, XNNPACK's words
_FLOAT_ONNX_KINDS = {
    *("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "LayerNormalization"),
    *("Elu", "Selu", "Sigmoid", "HardSigmoid", "HardSwish", "Softmax", "Gelu", "Erf", "Tanh", "Exp", "QuickGelu"),
}


@dataclass(frozen=True)
class Slowness:
    """One kind: ``words`` follow "1.2 of 3.4 ms runs", ``matches(name, kind, format)`` tells which ops are of it."""

    words: str
    matches: Callable[[str, str, str], bool]


@dataclass(frozen=True)
class Slow:
    """The kind that costs most: ``ms`` of the ops of it, ``all_ms`` of all ops, ``worst`` the slowest kernel."""

    slowness: Slowness
    ms: float
    all_ms: float
    worst: str


def _at_every_call(name: str, kind: str, format: str) -> bool:
    return bool(_AT_EVERY_CALL.search(f"{kind} {name}"))


def _outside_the_delegate(name: str, kind: str, format: str) -> bool:
    return format == "tflite" and bool(_INTERPRETER.fullmatch(kind)) and not _CONVERSIONS.search(kind)


def _in_float(name: str, kind: str, format: str) -> bool:
    text = f"{kind} {name}"
    known = format == "onnx" and kind in _FLOAT_ONNX_KINDS
    return known or bool(_FLOAT_KERNEL.search(text) or _CONVERSIONS.search(text))


SLOWNESSES = (
    Slowness("in ops that quantize their input at every call (dynamic range)", _at_every_call),
    Slowness("in the interpreter's own kernels, which its delegate has no fast form of", _outside_the_delegate),
    Slowness("in float or conversion ops", _in_float),
)


def slowest(latency: Latency, format: str) -> Slow | None:
    """Return the kind of slowness that most of the time goes to; None where no op is of any."""
    found: dict[Slowness, list[OpTime]] = {}
    for op in latency.ops:
        slowness = next((each for each in SLOWNESSES if each.matches(op.name, op.kind, format)), None)
        if slowness is not None:
            found.setdefault(slowness, []).append(op)
    if not found:
        return None
    ms, slowness = max(
        ((sum(op.ms for op in ops), slowness) for slowness, ops in found.items()), key=lambda item: item[0]
    )
    worst = max(found[slowness], key=lambda op: op.ms)
    return Slow(slowness, ms, sum(op.ms for op in latency.ops), worst.kind or worst.name)
