"""How a number is written, everywhere in a report: digits, units, and words where there is no number."""

from __future__ import annotations

from edgekit.profile.gains import usable_latency
from edgekit.profile.wording import signed
from edgekit.report.schema import Accuracy, Latency, TargetReport, Variant

TIMES = "\u00d7"
MINUS = "\u2212"
SPACE = "\u00a0"  # keeps a number and its unit on one line

FLAG_WORDS = {
    "unstable": "unstable: calls differ a lot from one another",
    "throttled": "throttled: the machine slowed down while measuring",
    "busy": "busy: other programs were running",
    "emulated": "emulated processor: its time is not shown",
    "cpu_fallback": "part of the network fell back to the CPU",
}
OUTCOME_WORDS = {
    "passed": "Passed",
    "missed": "Budget missed",
    "failed": "Failed",
    "unscored": "Not scored",
}
STATUS_WORDS = {
    "baseline": "baseline",
    "shipped": "ships",
    "kept": "kept",
    "dropped": "dropped",
    "unscored": "not scored",
}
BUDGET_WORDS = {
    "accuracy_drop": "Accuracy drop, at most",
    "latency_ms": "Latency (p50), at most",
    "model_mb": "Model size, at most",
    "memory_mb": "Peak memory, at most",
    "speedup": "Speed-up (min), at least",
}
RUNTIMES = {"litert": "LiteRT", "ort": "ONNX Runtime", "onnxruntime": "ONNX Runtime", "tflite": "TFLite"}


def milliseconds(value: float) -> str:
    """Return three significant digits or so, e.g. ``12.4 ms``."""
    digits = 3 if value < 0.1 else 2 if value < 10 else 1 if value < 100 else 0
    return f"{value:.{digits}f}{SPACE}ms"


def size(size_bytes: float) -> str:
    """Return decimal kB or MB, e.g. ``394 kB``; MB is 10^6 bytes."""
    if size_bytes < 1_000:
        return f"{size_bytes:.0f}{SPACE}bytes"
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1_000:.0f}{SPACE}kB"
    return f"{size_bytes / 1_000_000:.{2 if size_bytes < 10_000_000 else 1}f}{SPACE}MB"


def count(value: int) -> str:
    """Return e.g. ``1.24 M`` for parameters and MACs."""
    for scale, unit in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if value >= scale:
            return f"{value / scale:.2f}{SPACE}{unit}"
    return str(value)


def percent(share: float | None) -> str:
    """Return a share of 0 to 1, or a relative error, e.g. ``3.4 %``; None is one that is not known."""
    if share is None:
        return "unknown"
    text = f"{100 * share:.0f}" if share >= 0.0995 or not share else f"{100 * share:.2g}" if share >= 1e-4 else "< 0.01"
    return f"{text}{SPACE}%"


def factor(value: float) -> str:
    """Return e.g. ``6.1x``; two digits near one, where one digit would hide the direction."""
    return f"{value:.2f}{TIMES}" if value < 1.2 else f"{value:.1f}{TIMES}" if value < 99.5 else f"{value:.0f}{TIMES}"


def points(value: float) -> str:
    """Return a change in points with a true minus sign."""
    return signed(value).replace("-", MINUS)


def interval(accuracy: Accuracy) -> str:
    """Return the interval of the change as ``[low, high]``, or say that there is none."""
    low, high = accuracy.drop_low_points, accuracy.drop_high_points
    return "no interval" if low is None or high is None else f"[{points(-high)},{SPACE}{points(-low)}]"


def change_points(variant: Variant) -> float | None:
    """Return the change against the baseline in points, None where it is not known."""
    drop = variant.accuracy.drop_points if variant.accuracy else None
    return None if drop is None else -drop


def runtime(name: str, version: str) -> str:
    return f"{RUNTIMES.get(name, name)} {version}"


def where(latency: Latency) -> str:
    """Return where, in what and with how many threads it was measured: every ms stands next to this."""
    place = "on this host" if latency.place == "host" else "on the device"
    threads = "1 thread" if latency.threads == 1 else f"{latency.threads} threads"
    return f"{place}: {latency.machine}, {runtime(latency.runtime, latency.runtime_version)}, {threads}"


def why_untimed(variant: Variant) -> str:
    """Return why there are no milliseconds, in words."""
    if variant.latency is not None and "emulated" in variant.latency.flags:
        return "not measured: the processor was emulated"
    return f"not measured: {variant.latency_note}" if variant.latency_note else "not measured"


def why_unscored(variant: Variant) -> str:
    return f"not scored: {variant.cause}" if variant.cause else "not scored"


def timing_line(target: TargetReport) -> str:
    """Return where this target's figures come from, or why there are none."""
    for variant in target.variants:
        latency = usable_latency(variant)
        if latency is not None:
            line = f"Latency measured {where(latency)}."
            return line if latency.place == "device" else f"{line} It is not the board's latency."
    reasons = [why_untimed(variant) for variant in target.variants]
    reason = reasons[0] if reasons else "not measured"
    return f"Latency {reason.rstrip('.')}."


def plain_sentence(target: TargetReport) -> str:
    """Return the verdict without the target's name in front, for places where a heading says it."""
    text = target.sentence.removeprefix(f"{target.target}: ")
    return text[:1].upper() + text[1:]


def find(target: TargetReport, name: str) -> Variant | None:
    return next((variant for variant in target.variants if variant.name == name), None)
