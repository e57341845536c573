"""The report for a pull request: one line per target, then a table per target, the rest folded."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from edgekit.profile.gains import usable_latency
from edgekit.report import figures
from edgekit.report.device_section import beside, device_lines
from edgekit.report.diagnosis_section import summary
from edgekit.report.pruning_section import epochs, pruning_sentence
from edgekit.report.schema import Report, TargetReport, Variant
from edgekit.report.search_section import sentence
from edgekit.report.thinned_section import size_notes, thinned_facts

_MARKS = {"passed": "✅", "missed": "⚠️", "failed": "❌", "unscored": "❌"}
_SPECIAL = re.compile(r"([\\`*_\[\]|~#!])")


def render(report: Report) -> str:
    """Return GitHub-flavoured Markdown."""
    lines = [f"## edgekit: {text(report.name)}", ""]
    lines += [f"- {_MARKS[t.outcome]} {text(t.sentence)}" for t in report.targets]
    for failure in report.failures:
        hint = f" {text(failure.hint)}" if failure.hint else ""
        lines.append(f"- ❌ **{text(failure.step)}** failed: {text(failure.message)}.{hint}")
    for target in report.targets:
        lines += ["", f"### {text(target.title)}", "", *_variants(target)]
        lines += ["", text(figures.timing_line(target)), *(f"- {text(line)}" for line in device_lines(target))]
        lines += _folded("Steps, causes and budgets", _details(target))
    lines += _folded("Source, pruning and environment", _background(report))
    return "\n".join(lines) + "\n"


def text(value: str) -> str:
    """Escape HTML and Markdown, so that a name stays a name."""
    return _SPECIAL.sub(r"\\\1", html.escape(" ".join(value.split()), quote=False))


def _variants(target: TargetReport) -> list[str]:
    head = ["Variant", "", "Size", "p50 (min)", "Speed-up (min)", "Accuracy", "Change, points"]
    rows = []
    for variant in target.variants:
        status = figures.STATUS_WORDS[variant.status]
        name = f"**{text(variant.name)}**" if variant.name == target.shipped else text(variant.name)
        rows.append([name, status, *_figures(variant)])
    return _table(head, rows, numbers=2)


def _figures(variant: Variant) -> list[str]:
    latency = usable_latency(variant)
    accuracy = variant.accuracy
    change = figures.change_points(variant)
    time = "not measured"
    if latency is not None:
        time = f"{figures.milliseconds(latency.p50_ms)} ({figures.milliseconds(latency.min_ms)})"
        time = ", ".join(filter(None, (time, beside(variant))))
    points = "not scored"
    if accuracy is not None:
        points = "baseline" if variant.status == "baseline" else "unknown"
        if change is not None and variant.status != "baseline":
            points = f"{figures.points(change)} {text(figures.interval(accuracy))}"
    return [
        figures.size(variant.size_bytes) if variant.size_bytes else "not made",
        time,
        figures.factor(variant.speedup) if variant.speedup and latency else "not measured",
        f"{accuracy.value:.3f} {text(accuracy.metric)}" if accuracy else "not scored",
        points,
    ]


def _details(target: TargetReport) -> list[str]:
    lines = []
    if target.steps:
        rows = [
            [
                text(gain.step),
                f"{text(gain.before)} → {text(gain.after)}",
                figures.factor(gain.size_ratio),
                figures.factor(gain.speedup) if gain.speedup else "not measured",
                "unknown" if gain.accuracy_points is None else figures.points(gain.accuracy_points),
                "kept" if gain.kept else f"dropped: {text(gain.cause)}",
            ]
            for gain in target.steps
        ]
        lines += _table(["Step", "Rows", "Size", "Speed", "Points", "Verdict"], rows, numbers=2)
    if target.budgets:
        rows = [
            [
                text(figures.BUDGET_WORDS.get(budget.name, budget.name)),
                f"{budget.limit:g} {text(budget.unit)}",
                "not measured" if budget.reached is None else f"{budget.reached + 0.0:.3g} {text(budget.unit)}",
                "met" if budget.passed else "**missed**",
                text(budget.note),
            ]
            for budget in target.budgets
        ]
        lines += ["", *_table(["Budget", "Limit", "Reached", "", "Note"], rows, numbers=1)]
    notes = [f"- {text(v.name)}: {text(v.cause)}" for v in target.variants if v.cause]
    notes += [f"- {text(v.name)}: {text(warning)}" for v in target.variants for warning in v.warnings]
    notes += [f"- {text(v.name)}: {text(note)}" for v in target.variants for note in size_notes(v)]
    notes += [f"- {text(v.name)}: {text(sentence(v.search))}" for v in target.variants if v.search]
    notes += [f"- {text(v.name)}, why: {text(summary(v.diagnosis))}" for v in target.variants if v.diagnosis]
    notes += [
        f"- {text(v.name)}: {text(figures.FLAG_WORDS.get(flag, flag))}"
        for v in target.variants
        if v.latency
        for flag in v.latency.flags
    ]
    return [*lines, "", *notes] if notes else lines


def _background(report: Report) -> list[str]:
    source, environment, prune = report.source, report.environment, report.prune
    lines = [
        f"- Source: {text(source.path)}, {text(source.format)}, {figures.size(source.size_bytes)}, "
        f"sha256 {source.sha256[:12]}, {text(source.task)}",
        f"- {report.test_samples} test samples, {report.calibration_samples} calibration samples",
    ]
    if prune is not None:
        lines.append(
            f"- Pruning: MACs {figures.count(prune.macs_before)} → {figures.count(prune.macs_after)}, "
            f"parameters {figures.count(prune.parameters_before)} → {figures.count(prune.parameters_after)}, "
            f"recovery by {text(prune.recovery)}{epochs(prune)}; "
            f"{len(prune.frozen)} layers left alone"
        )
        if prune.curve:
            lines.append(f"- {text(pruning_sentence(prune))}")
        lines += [f"- {title}: {words}" for title, words in thinned_facts(prune)]
    libraries = ", ".join(f"{text(name)} {text(version)}" for name, version in environment.libraries.items())
    lines += [
        f"- edgekit {text(environment.edgekit)}, Python {text(environment.python)}, "
        f"{text(environment.system)}, {text(environment.cpu)}, {environment.cores} cores",
        f"- {libraries}",
    ]
    return [*lines, *(f"- Warning: {text(warning)}" for warning in [*source.warnings, *report.warnings])]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: int) -> list[str]:
    rule = ["---" if index < numbers else "---:" for index in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)]


def _folded(summary: str, lines: Sequence[str]) -> list[str]:
    if not lines:
        return []
    return ["", "<details>", f"<summary>{summary}</summary>", "", *lines, "", "</details>"]
