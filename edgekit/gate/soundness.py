"""What must hold of a run on its own: nothing missing, NaN, unscored, skipped or failed, and every budget met."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from edgekit.gate.findings import Finding
from edgekit.profile.gains import usable_latency
from edgekit.report import figures
from edgekit.report.schema import BudgetResult, Report, TargetReport


def examine(report: Report) -> Iterator[Finding]:
    """Yield a finding for every budget and target, and for whatever is missing."""
    for failure in report.failures:
        first = failure.message.splitlines()[0] if failure.message else failure.error
        where = ", ".join(failure.targets)
        yield Finding(rule="build-failed", found="failed", target=where, message=f"{failure.step} failed: {first}")
    for place in sorted(_not_finite(report.model_dump(), "report")):
        yield Finding(rule="not-a-number", found="failed", target="", message=f"{place} is not a finite number")
    judged = {target.target.partition(" (")[0] for target in report.targets}
    for name in report.identity.targets or ([] if judged else ["every target"]):
        if name not in judged:
            yield Finding(
                rule="target-skipped", found="failed", target=name, message="was asked for and has no verdict"
            )
    for target in report.targets:
        yield from _target(target)


def _target(target: TargetReport) -> Iterator[Finding]:
    shipped = figures.find(target, target.shipped)
    if shipped is None or target.outcome in ("failed", "unscored"):
        yield _failed("nothing-ships", target, figures.plain_sentence(target))
    for variant in target.variants:
        if variant.status == "unscored" or variant.accuracy is None:
            yield _failed("unscored", target, f"{variant.name} was not scored: {variant.cause or 'no cause is known'}")
    if shipped is not None and _is_timed(target) and usable_latency(shipped) is None:
        yield _failed("untimed", target, f"{shipped.name} ships and was {figures.why_untimed(shipped)}")
    for budget in target.budgets:
        yield _budget(target, budget)
    if target.outcome == "missed" and all(_holds(budget) for budget in target.budgets):
        yield _failed("budget-missed", target, figures.plain_sentence(target))
    if target.outcome == "passed" and not target.budgets:
        yield Finding(
            rule="budget-missed", found="noted", target=target.target, message="the recipe sets no budget for it"
        )


def _budget(target: TargetReport, budget: BudgetResult) -> Finding:
    words = figures.BUDGET_WORDS.get(budget.name, budget.name)
    reached = "not measured" if budget.reached is None else f"{budget.reached + 0.0:.3g} {budget.unit}"  # no -0
    note = f"; {budget.note}" if budget.note else ""
    what, _, bound = words.partition(", ")
    return Finding(
        rule="budget-missed",
        found="passed" if _holds(budget) else "failed",
        target=target.target,
        metric=budget.name,
        message=f"{what} {reached}, budget {bound} {budget.limit:g} {budget.unit}{note}",
        unit=budget.unit,
        now=budget.reached,
        limit=f"{bound} {budget.limit:g} {budget.unit}",
    )


def _holds(budget: BudgetResult) -> bool:
    return budget.passed and budget.reached is not None and math.isfinite(budget.reached)


def _is_timed(target: TargetReport) -> bool:
    """A target where anything was timed must have it for what ships."""
    return any(variant.latency is not None for variant in target.variants)


def _failed(rule: str, target: TargetReport, message: str) -> Finding:
    return Finding(rule=rule, found="failed", target=target.target, message=message.rstrip("."))


def _not_finite(value: Any, place: str) -> Iterator[str]:
    if isinstance(value, float) and not math.isfinite(value):
        yield place
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _not_finite(item, f"{place}.{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _not_finite(item, f"{place}[{number}]")
