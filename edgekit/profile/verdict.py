"""Decide what ships on one target, and say why in one sentence. Pure: data in, data out.

The rules, in the order they are applied to each variant:

1. No accuracy, one that is not a number, or of another metric or sample count: ``unscored``, never ships.
2. Timed target and no interleaved latency: dropped. Missing is never good.
3. Accuracy drop over the budget (point estimate): dropped.
4. Worth nothing over its nearest surviving ancestors (see `gains.worth_causes`): dropped.

Of the rest the fastest ships, the smaller of those within 2 %; where nothing can be timed, the smallest of
the most preferred precision. Survivors that meet every budget go before those that do not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgekit.profile import gains, wording
from edgekit.profile.budget import EPSILON, Budget, check_budgets, drop_points
from edgekit.report.schema import Outcome, Status, StepGain, TargetReport, Variant

__all__ = ["Budget", "check_budgets", "exit_code", "judge", "refused"]

EXIT_PASSED, EXIT_REFUSED, EXIT_FAILED, EXIT_MISSED = 0, 4, 5, 7

_TIE = 1.02


@dataclass(frozen=True)
class _Finding:
    """Why a variant is out. ``kind`` is unscored | untimed | accuracy | worth."""

    kind: str
    text: str


def judge(
    target: str, title: str, family: str, variants: Sequence[Variant], budget: Budget, *, timed: bool
) -> TargetReport:
    """Return the verdict over the variants of one target; the first is the float, unpruned baseline.

    List order is preference where nothing can be timed: later is more compressed. The statuses and causes of
    the input are replaced, except that an unscored variant keeps the cause it came with.
    """
    fault = _baseline_fault(variants, timed)
    if fault:
        return _failed(target, title, family, variants, fault)
    baseline = variants[0]
    findings = _examine(variants, budget, timed)
    alive = [row for row in variants if not findings[row.name]]
    shipped = _choose(alive, baseline, budget, timed)
    outcome = _outcome(baseline, shipped, findings, budget)
    ships = "" if outcome == "unscored" else shipped.name
    rows = [_marked(row, baseline, ships, findings[row.name]) for row in variants]
    budgets = check_budgets(baseline, shipped, budget) if ships else []
    causes = {row.name: row.cause for row in rows if row.cause}
    if outcome == "unscored":
        text = wording.nothing_known(causes)
    elif shipped.name != baseline.name:
        text = wording.ships(baseline, shipped, drop_points(baseline, shipped), budgets)
    else:
        best = _best_attempt(variants, findings)
        lost = drop_points(baseline, best) if best else 0.0
        text = wording.ships_baseline(baseline, best, lost, budget.accuracy_drop_points, causes, budgets)
    return TargetReport(
        target=target,
        title=title,
        family=family,
        outcome=outcome,
        sentence=f"{target}: {text}",
        baseline=baseline.name,
        shipped=ships,
        variants=rows,
        steps=_step_gains(rows),
        budgets=budgets,
    )


def refused(target: str, title: str, family: str, why: str) -> TargetReport:
    """Return the verdict on a target that takes nothing that can be made of the model."""
    verdict = _failed(target, title, family, [], why)
    return verdict.model_copy(update={"sentence": f"{target}: the model cannot go there: {why}"})


def exit_code(targets: Sequence[TargetReport], refusals: int = 0) -> int:
    """Return 5 if a target failed or is unscored (or there is none), 4 if ``refusals`` others get no file at all,
    7 if one missed a budget, else 0.
    """
    outcomes = {target.outcome for target in targets}
    if not outcomes or outcomes & {"failed", "unscored"}:
        return EXIT_FAILED
    if refusals:
        return EXIT_REFUSED
    return EXIT_MISSED if "missed" in outcomes else EXIT_PASSED


def _baseline_fault(variants: Sequence[Variant], timed: bool) -> str:
    if not variants:
        return "there is no float baseline, so nothing can be compared"
    baseline = variants[0]
    fault = _unscored(baseline, baseline)
    if fault:
        return f"the float baseline {baseline.name} has no score ({fault}), so nothing can be compared"
    if baseline.accuracy is not None and baseline.accuracy.value <= 0:
        return (
            f"the float baseline {baseline.name} itself scores 0 {baseline.accuracy.metric} on "
            f"{baseline.accuracy.samples} samples, so no drop means anything; check [preprocess] and [task]"
        )
    if timed and gains.usable_latency(baseline) is None:
        emulated = baseline.latency is not None and "emulated" in baseline.latency.flags
        note = "emulated time does not count" if emulated else baseline.latency_note or "no latency"
        return f"the float baseline {baseline.name} could not be timed ({note}), so no speed-up is known"
    return ""


def _failed(target: str, title: str, family: str, variants: Sequence[Variant], fault: str) -> TargetReport:
    rows = [
        row.model_copy(update={"status": _status_without_verdict(row, index), "cause": row.cause or fault})
        for index, row in enumerate(_clean(variant, variants[0]) for variant in variants)
    ]
    return TargetReport(
        target=target,
        title=title,
        family=family,
        outcome="failed",
        sentence=f"{target}: failed: {fault}.",
        baseline=variants[0].name if variants else "",
        shipped="",
        variants=rows,
        steps=[],
        budgets=[],
    )


def _status_without_verdict(row: Variant, index: int) -> Status:
    if row.accuracy is None:
        return "unscored"
    return "dropped" if index else "baseline"


def _unscored(baseline: Variant, row: Variant) -> str:
    accuracy = row.accuracy
    if row.size_bytes <= 0:
        return row.cause or "the artifact was not made"
    if accuracy is None:
        return row.cause or "its accuracy was not measured"
    if not math.isfinite(accuracy.value):
        return row.cause or f"its {accuracy.metric} is not a number"
    if accuracy.samples <= 0:
        return row.cause or "it was scored on no samples"
    first = baseline.accuracy
    if first is not None and (accuracy.metric, accuracy.samples) != (first.metric, first.samples):
        return (
            f"scored as {accuracy.metric} on {accuracy.samples} samples, the baseline as {first.metric} "
            f"on {first.samples}: not comparable"
        )
    return ""


def _examine(variants: Sequence[Variant], budget: Budget, timed: bool) -> dict[str, list[_Finding]]:
    baseline = variants[0]
    findings: dict[str, list[_Finding]] = {baseline.name: []}
    alive = {baseline.name: True}
    for row in sorted(variants[1:], key=lambda row: len(row.steps)):  # ancestors first
        findings[row.name] = _examine_one(row, variants, alive, budget, timed)
        alive[row.name] = not findings[row.name]
    return findings


def _examine_one(
    row: Variant, variants: Sequence[Variant], alive: dict[str, bool], budget: Budget, timed: bool
) -> list[_Finding]:
    baseline = variants[0]
    fault = _unscored(baseline, row)
    if fault:
        return [_Finding("unscored", fault)]
    if timed and gains.speed_ratio(baseline, row) is None:
        note = row.latency_note or "no latency side by side with the baseline"
        return [_Finding("untimed", wording.untimed(note))]
    found = []
    limit, drop = budget.accuracy_drop_points, drop_points(baseline, row)
    if limit is not None and drop > limit + EPSILON:
        found.append(_Finding("accuracy", f"loses {drop:.2f} points, the budget is {limit:g}"))
    for reference in gains.references(row, variants, alive):
        found += [_Finding("worth", text) for text in gains.worth_causes(reference, row)]
    return found


def _choose(alive: Sequence[Variant], baseline: Variant, budget: Budget, timed: bool) -> Variant:
    meeting = [row for row in alive if all(item.passed for item in check_budgets(baseline, row, budget))]
    pool = meeting or list(alive)
    if not timed:
        compressed = [row for row in pool if row.name != baseline.name] or pool
        return min(
            (row for row in compressed if row.precision == compressed[-1].precision),
            key=lambda row: row.size_bytes,
        )
    speeds = {row.name: gains.speed_ratio(baseline, row) or 0.0 for row in pool}
    fastest = max(speeds.values())
    tied = [row for row in pool if speeds[row.name] * _TIE >= fastest]
    return min(tied, key=lambda row: (row.size_bytes, -speeds[row.name]))


def _outcome(baseline: Variant, shipped: Variant, findings: dict[str, list[_Finding]], budget: Budget) -> Outcome:
    if shipped.name == baseline.name:
        kinds = [{finding.kind for finding in found} for found in findings.values() if found]
        if any("accuracy" in kind for kind in kinds):
            return "missed"
        if any(kind & {"unscored", "untimed"} for kind in kinds):
            return "unscored"
    passed = all(item.passed for item in check_budgets(baseline, shipped, budget))
    return "passed" if passed else "missed"


def _marked(row: Variant, baseline: Variant, shipped: str, found: Sequence[_Finding]) -> Variant:
    status: Status = "kept"
    if row.name == baseline.name:
        status = "baseline"
    elif found:
        status = "unscored" if found[0].kind == "unscored" else "dropped"
    elif row.name == shipped:
        status = "shipped"
    cause = "; ".join(dict.fromkeys(finding.text for finding in found))
    return _clean(row, baseline).model_copy(update={"status": status, "cause": cause})


def _clean(row: Variant, baseline: Variant) -> Variant:
    """Take away what is not a number (the report says "not measured", never NaN) and fill in the drop."""
    speedups = {name: _finite(getattr(row, name)) for name in ("speedup", "speedup_p50")}
    accuracy = row.accuracy
    if accuracy is not None and _finite(accuracy.value) is None:
        accuracy = None
    if accuracy is not None:
        drop = 0.0 if row.name == baseline.name else _finite(drop_points(baseline, row))
        ends = {name: _finite(getattr(accuracy, name)) for name in ("drop_low_points", "drop_high_points")}
        accuracy = accuracy.model_copy(update={"drop_points": drop, **ends})
    return row.model_copy(update={"accuracy": accuracy, **speedups})


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _best_attempt(variants: Sequence[Variant], findings: dict[str, list[_Finding]]) -> Variant | None:
    """Return the variant over the accuracy budget that lost the least, of those that were worth it if there are any."""
    kinds = {row.name: {finding.kind for finding in findings[row.name]} for row in variants}
    failed = [row for row in variants if "accuracy" in kinds[row.name]]
    return min(failed, key=lambda row: ("worth" in kinds[row.name], drop_points(variants[0], row)), default=None)


def _step_gains(rows: Sequence[Variant]) -> list[StepGain]:
    found = []
    for row in rows[1:]:
        alive = row.status in ("shipped", "kept")
        found += [
            gains.step_gain(parent, row, kept=alive, cause=row.cause)
            for parent in gains.parents(row, rows)
            if parent.size_bytes > 0 and row.size_bytes > 0
        ]
    return found
