"""Runs side by side as Markdown: a table per target, the first run the measure of the others."""

from __future__ import annotations

from edgekit.gate.against import shown
from edgekit.gate.compare import ComparedRow, Comparison
from edgekit.gate.reached import METRICS
from edgekit.report import figures
from edgekit.report.markdown import text

COLUMNS = {"accuracy": "Accuracy", "size": "Size", "speedup": "Speed-up", "latency": "p50", "memory": "Memory"}
APART = "†"  # the figure was taken under other conditions than the first run's


def render(comparison: Comparison) -> str:
    """Return GitHub-flavoured Markdown."""
    lines = ["## edgekit: runs compared", "", *(f"- {text(run.run)}: {text(run.label)}" for run in comparison.runs)]
    for target in dict.fromkeys(row.target for row in comparison.rows):
        rows = [row for row in comparison.rows if row.target == target]
        names = present(rows)
        head = ["Run", "Ships", *(COLUMNS[name] for name in names)]
        body = [[text(row.run), text(row.ships) or "**nothing**", *(cell(row, name) for name in names)] for row in rows]
        rule = ["---", "---", *("---:" for _ in names)]
        lines += ["", f"### {text(target)}", "", *(f"| {' | '.join(cells)} |" for cells in (head, rule, *body))]
    if comparison.differences:
        lines += ["", f"{APART} not under the first run's conditions:", ""]
        lines += [f"- {text(item)}" for item in comparison.differences]
    return "\n".join(lines) + "\n"


def present(rows: list[ComparedRow]) -> list[str]:
    """Return the metrics that any of the rows has."""
    return [name for name in COLUMNS if any(name in row.figures for row in rows)]


def cell(row: ComparedRow, name: str) -> str:
    """Return the figure and its change, e.g. ``117 kB (-2.1 %)``."""
    found = row.figures.get(name)
    if found is None:
        return "-"
    metric = next(item for item in METRICS if item.name == name)
    value = shown(metric, found.value) + ("" if found.comparable else APART)
    if found.change is None:
        return value
    up = found.change if metric.higher_is_better else -found.change
    unit = " points" if metric.points else " %"
    return f"{value} ({'±0' if not found.change else f'{up:+.2g}'.replace('-', figures.MINUS) + unit})"
