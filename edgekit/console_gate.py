"""The outcome of a check on a terminal: one line per violation, then what holds."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.markup import escape

from edgekit.gate.findings import CheckResult, Finding

_MARKS = {"passed": "[green]✓[/]", "failed": "[red]✗[/]", "noted": "[yellow]note:[/]"}


def show_check(result: CheckResult, *, everything: bool, on_stderr: bool = False) -> None:
    """Print the violations, one line each; with ``everything`` also what was compared and holds."""
    out = Console(highlight=False, stderr=on_stderr)
    for finding in result.findings:
        if finding.found == "failed" or everything:
            out.print(f"{_MARKS[finding.found]} {escape(line(finding))}", soft_wrap=True)
    out.print(f"{_MARKS['passed' if result.passed else 'failed']} {escape(summary(result))}", soft_wrap=True)


def line(finding: Finding) -> str:
    return f"{finding.target}: {finding.message}" if finding.target else finding.message


def summary(result: CheckResult) -> str:
    """Return the outcome in one sentence."""
    counts = Counter(finding.found for finding in result.findings)
    held, failed = counts["passed"], counts["failed"]
    against = f" against {result.baseline}" if result.baseline else ""
    if result.passed:
        return f"{result.name}: check passed{against}: {held} figures hold"
    return f"{result.name}: {failed} violation{'s' if failed > 1 else ''}{against}; {held} figures hold"
