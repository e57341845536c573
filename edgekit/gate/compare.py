"""Several runs side by side: what ships on each target, and how far each figure is from the first run's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from edgekit.gate.against import change
from edgekit.gate.check import label
from edgekit.gate.differences import Difference, differences, spoiled
from edgekit.gate.reached import METRICS, Metric, reached
from edgekit.report.schema import Model, Outcome, Report, TargetReport


class ComparedFigure(Model):
    """One figure of what ships, and its distance from the first run's."""

    value: float
    unit: str
    change: float | None = Field(default=None, description="against the first run, positive where better")
    change_unit: str = ""
    change_low: float | None = None
    change_high: float | None = None
    comparable: bool = Field(default=True, description="false: taken on other data, device or runtime than the first")


class ComparedRow(Model):
    """One run on one target."""

    run: str
    target: str
    outcome: Outcome
    ships: str = Field(description="empty: nothing does")
    figures: dict[str, ComparedFigure]


class ComparedRun(Model):
    run: str = Field(description="how the run was named on the command line")
    label: str
    exit_code: int


class Comparison(Model):
    """The outcome of ``edgekit compare``; the first run is what the others are held against."""

    schema_version: Literal[1] = 1
    runs: list[ComparedRun]
    rows: list[ComparedRow] = Field(description="by target, then in the order of the runs")
    differences: list[str] = Field(description="conditions that are not the first run's")


def compare(runs: Mapping[str, Report]) -> Comparison:
    """Put the runs side by side. Nothing is refused: what cannot be compared is marked and said."""
    first = next(iter(runs.values()))
    found = {name: differences(report, first) for name, report in runs.items()}
    targets = dict.fromkeys(target.target for report in runs.values() for target in report.targets)
    return Comparison(
        runs=[ComparedRun(run=name, label=label(report), exit_code=report.exit_code) for name, report in runs.items()],
        rows=[
            _row(name, target, _find(first, target.target), found[name], report.source.sha256 == first.source.sha256)
            for wanted in targets
            for name, report in runs.items()
            for target in report.targets
            if target.target == wanted
        ],
        differences=[
            f"{name}: {item.target + ': ' if item.target else ''}{item.what}: {item.now}; first: {item.before}"
            for name, items in found.items()
            for item in items
        ],
    )


def _find(report: Report, target: str) -> TargetReport | None:
    return next((item for item in report.targets if item.target == target), None)


def _row(
    run: str, target: TargetReport, first: TargetReport | None, found: Sequence[Difference], same_source: bool
) -> ComparedRow:
    figures = {
        metric.name: figure
        for metric in METRICS
        if (figure := _figure(metric, target, first, bool(spoiled(found, metric.key, target.target)), same_source))
    }
    return ComparedRow(run=run, target=target.target, outcome=target.outcome, ships=target.shipped, figures=figures)


def _figure(
    metric: Metric, target: TargetReport, first: TargetReport | None, apart: bool, same_source: bool
) -> ComparedFigure | None:
    ours = reached(target, metric.key)
    if ours is None:
        return None
    theirs = reached(first, metric.key) if first and first is not target else None
    moved = change(metric, ours, theirs, same_source=same_source) if theirs and theirs.value > 0 else None
    return ComparedFigure(
        value=ours.value,
        unit=metric.unit,
        change=moved and moved.value,
        change_unit=("points" if metric.points else "%") if moved else "",
        change_low=moved and moved.low,
        change_high=moved and moved.high,
        comparable=not apart,
    )
