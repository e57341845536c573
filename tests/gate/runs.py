"""Finished runs to hold against each other: a sound one, and edits of it."""

from __future__ import annotations

from typing import Any

from report_example import example, jetson, raspberry_pi

from edgekit.gate.check import check
from edgekit.gate.findings import CheckResult
from edgekit.report.schema import Identity, Report, Variant

PI, JETSON = "raspberry-pi-4", "jetson-orin-nano"


def sound(**changes: Any) -> Report:
    """Return a run that passes: a timed target and an untimed one."""
    fields = {
        "targets": [raspberry_pi(), jetson()],
        "failures": [],
        "exit_code": 0,
        "identity": Identity(recipe="models/edgekit.toml", targets=[PI, JETSON], test_sha256="aa" * 32),
    }
    return example().model_copy(update={**fields, **changes})


def with_target(report: Report, number: int = 0, **changes: Any) -> Report:
    targets = list(report.targets)
    targets[number] = targets[number].model_copy(update=changes)
    return report.model_copy(update={"targets": targets})


def with_variant(report: Report, name: str, number: int = 0, **changes: Any) -> Report:
    """Change one variant of a target."""
    rows = [row.model_copy(update=changes) if row.name == name else row for row in report.targets[number].variants]
    return with_target(report, number, variants=rows)


def shipped(report: Report, number: int = 0) -> Variant:
    target = report.targets[number]
    return next(row for row in target.variants if row.name == target.shipped)


def with_shipped(report: Report, number: int = 0, **changes: Any) -> Report:
    return with_variant(report, report.targets[number].shipped, number, **changes)


def with_latency(report: Report, number: int = 0, **changes: Any) -> Report:
    """Change the latency of every variant of a target."""
    rows = [
        row.model_copy(update={"latency": row.latency and row.latency.model_copy(update=changes)})
        for row in report.targets[number].variants
    ]
    return with_target(report, number, variants=rows)


def violations(report: Report, *more: Any, **options: Any) -> list[tuple[str, str, str]]:
    """Return (rule, target, metric) of each violation."""
    result = check(report, *more, **options)
    return [(found.rule, found.target, found.metric) for found in result.violations]


def only_message(result: CheckResult) -> str:
    [found] = result.violations
    return found.message
