"""The outcome of a check on a terminal: one line per violation, then what holds."""

from __future__ import annotations

from collections import Counter

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgekit.gate.compare import Comparison
from edgekit.gate.findings import CheckResult, Finding
from edgekit.report.comparison import APART, COLUMNS, cell, present

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
    holds = "1 figure holds" if held == 1 else f"{held} figures hold"
    if result.passed:
        return f"{result.name}: check passed{against}: {holds}"
    return f"{result.name}: {failed} violation{'s' if failed > 1 else ''}{against}; {holds}"


def show_comparison(comparison: Comparison) -> None:
    """Print a table per target: a row per run, each figure with its change against the first."""
    out = Console(highlight=False)
    names = _short([run.run for run in comparison.runs])
    for target in dict.fromkeys(row.target for row in comparison.rows):
        rows = [row for row in comparison.rows if row.target == target]
        metrics = present(rows)
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("run", overflow="fold")
        table.add_column("ships", overflow="fold")
        for name in metrics:
            table.add_column(COLUMNS[name].lower(), justify="right", overflow="fold")
        for row in rows:
            ships = escape(row.ships) if row.ships else "[red]nothing[/]"
            table.add_row(escape(names[row.run]), ships, *(cell(row, name) for name in metrics))
        out.print(f"\n[bold]{escape(target)}[/]")
        out.print(table)
    if comparison.differences:
        out.print(f"\n{APART} not under the first run's conditions:")
        for item in comparison.differences:
            out.print(f"  {escape(item)}", style="dim", soft_wrap=True)


def _short(runs: list[str]) -> dict[str, str]:
    """Leave away the folders that all runs have in common."""
    parts = [run.rstrip("/").split("/") for run in runs]
    shared = 0
    while all(len(part) > shared + 1 for part in parts) and len({part[shared] for part in parts}) == 1:
        shared += 1
    ends = 0
    while all(len(part) > shared + ends + 1 for part in parts) and len({part[-1 - ends] for part in parts}) == 1:
        ends += 1
    return {run: "/".join(part[shared : len(part) - ends]) for run, part in zip(runs, parts, strict=True)}
