"""Does a finished run pass? Alone, and against a baseline."""

from __future__ import annotations

from edgekit.errors import BudgetError, RecipeError
from edgekit.gate import against, soundness
from edgekit.gate.differences import Difference, differences
from edgekit.gate.findings import CheckResult, Finding
from edgekit.gate.reached import METRICS
from edgekit.report.schema import Report

EXIT_VIOLATED = BudgetError.exit_code


def check(report: Report, baseline: Report | None = None, *, allow_different: bool = False) -> CheckResult:
    """Look at everything that may not pass.

    Raises RecipeError where the baseline was measured on other data, another device or in another runtime,
    as far as that spoils a metric that is compared; ``allow_different`` compares all the same, and says so.
    """
    findings = list(soundness.examine(report))
    if baseline is not None:
        found = [item for item in differences(report, baseline) if _matters(item, report)]
        if found and not allow_different:
            raise _refusal(found)
        findings += [
            Finding(rule="conditions-differ", found="noted", target=item.target, message=str(item).partition(": ")[2])
            if item.target
            else Finding(rule="conditions-differ", found="noted", target="", message=str(item))
            for item in found
        ]
        findings += against.compare(report, baseline, found)
    if report.exit_code and not any(finding.found == "failed" for finding in findings):
        message = f"the build itself ended in exit code {report.exit_code}"
        findings.append(Finding(rule="build-failed", found="failed", target="", message=message))
    passed = not any(finding.found == "failed" for finding in findings)
    return CheckResult(
        name=report.name,
        run=label(report),
        baseline=label(baseline) if baseline else "",
        recipe=report.identity.recipe,
        passed=passed,
        exit_code=0 if passed else EXIT_VIOLATED,
        findings=findings,
    )


def label(report: Report) -> str:
    """Name a run in a few words."""
    return f"{report.created}, {report.source.path} {report.source.sha256[:8]}"


def _matters(item: Difference, report: Report) -> bool:
    """Say whether the difference spoils a metric that is compared on any target it touches."""
    names = [item.target] if item.target else [target.target for target in report.targets]
    compared = {metric.key for metric in METRICS for name in names if report.check.of(metric.key, name) is not None}
    return bool(item.spoils & compared)


def _refusal(found: list[Difference]) -> RecipeError:
    lines = "\n".join(f"  {item}" for item in found)
    return RecipeError(
        f"The two runs cannot be compared:\n{lines}",
        "Build the baseline again under the same conditions; or compare all the same with --allow-different; "
        "or leave a metric out, e.g. [check] speedup_percent = false",
    )
