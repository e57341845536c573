"""A model card of one artifact, in Markdown: what it is, what was measured, and what only its owner can say.

The headings follow Mitchell et al., Model Cards for Model Reporting, 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgekit.bundle.record import Origin
from edgekit.profile.gains import usable_latency
from edgekit.report import figures
from edgekit.report.markdown import text
from edgekit.report.schema import TargetReport, Variant
from edgekit.report.search_section import sentence

SUFFIX = ".card.md"


def card(origin: Origin, target: TargetReport, variant: Variant, manifest: dict[str, Any]) -> str:
    """Return the card; every figure in it is one of the report's."""
    report = origin.report
    how = " and ".join(variant.steps) or "converted only"
    lines = [
        f"# {text(report.name)}: {text(variant.name)} for {text(target.title)}",
        "",
        f"`{manifest['file']}`: {variant.precision} {variant.format}, {figures.size(variant.size_bytes)}, sha256 "
        f"`{variant.sha256}`.",
        "",
        "## Model",
        "",
        f"- Task: {text(report.source.task)}",
        f"- Made from {text(report.source.path)} ({report.source.format}, sha256 `{report.source.sha256}`): {how}",
        *([f"- {text(sentence(variant.search))}"] if variant.search else []),
        "",
        *_tensors("Inputs", manifest["inputs"]),
        "",
        *_tensors("Outputs", manifest["outputs"]),
        "",
        f"Preprocessing: x = (pixel - mean) * scale, mean {manifest['preprocess'].get('mean')}, "
        f"scale {manifest['preprocess'].get('scale')}, color {manifest['preprocess'].get('color')}.",
        "",
        "## Metrics",
        "",
        *_metrics(origin, target, variant),
        "",
        "## Data",
        "",
        f"- Scored on {report.test_samples} samples that nothing was fitted to "
        f"(sha256 `{report.identity.test_sha256}`)",
        f"- Calibrated on {report.calibration_samples} other, unlabelled samples "
        f"(sha256 `{report.identity.calibration_sha256}`)",
        *([f"- Recovered on training samples (sha256 `{report.identity.train_sha256}`)"]
          if report.identity.train_sha256 and "prune" in variant.steps else []),
        "",
        "## Limits",
        "",
        *(f"- {text(line)}" for line in _limits(target, variant)),
        "",
        "## For its owner to say",
        "",
        "- What it is for, and what it must not be used for",
        "- Where the training data came from, whom it leaves out, and under which licence it and the model stand",
        "- Who answers for it",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _tensors(title: str, tensors: Sequence[dict[str, Any]]) -> list[str]:
    rows = [
        f"| {text(tensor['name'])} | {figures.TIMES.join(map(str, tensor['shape']))} | {tensor['dtype']} | "
        f"{_layout(tensor)} | {_quantization(tensor['quantization'])} |"
        for tensor in tensors
    ]
    return [f"| {title} | Shape | Type | Layout | Quantization |", "|---|---|---|---|---|", *rows]


def _layout(tensor: dict[str, Any]) -> str:
    other = tensor.get("source_layout")
    return f"{tensor['layout']}; the source model's is {other}" if other else tensor["layout"] or "-"


def _quantization(found: dict[str, Any] | None) -> str:
    return f"scale {found['scale']:.6g}, zero point {found['zero_point']}" if found else "-"


def _metrics(origin: Origin, target: TargetReport, variant: Variant) -> list[str]:
    baseline = figures.find(target, target.baseline)
    lines = []
    accuracy = variant.accuracy
    if accuracy is not None:
        change = figures.change_points(variant)
        against = ""
        if baseline and baseline.accuracy and variant.name != baseline.name and change is not None:
            against = (
                f"; the float model has {baseline.accuracy.value:.3f}: {figures.points(change)} points "
                f"{figures.interval(accuracy)}, {accuracy.interval_level:.0%} paired bootstrap"
            )
        lines.append(
            f"- {text(accuracy.metric)} {accuracy.value:.3f} on {accuracy.samples} samples, in "
            f"{figures.runtime(accuracy.runtime, accuracy.runtime_version)}{against}"
        )
    latency = usable_latency(variant)
    if latency is None:
        lines.append(f"- Latency {figures.why_untimed(variant)}")
    else:
        lines.append(f"- Latency p50 {figures.milliseconds(latency.p50_ms)}, {figures.where(latency)}")
        if variant.speedup and variant.name != target.baseline:
            lines.append(f"- {figures.factor(variant.speedup)} as fast as the float model, timed in turns with it")
    return [*lines, f"- Measured {origin.report.created} by edgekit {origin.report.environment.edgekit}"]


def _limits(target: TargetReport, variant: Variant) -> list[str]:
    lines = [*variant.warnings]
    latency = usable_latency(variant)
    if latency is not None and latency.place != "device":
        lines.append(f"The milliseconds are of the machine it was built on, not of {target.title}.")
    lines += [figures.FLAG_WORDS.get(flag, flag) for flag in latency.flags] if latency else []
    return lines or ["None that edgekit noticed; it sees no more than the test samples show."]
