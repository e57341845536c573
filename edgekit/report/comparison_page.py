"""Runs side by side as a page: the table of ``edgekit compare``, every run but one with its distance from that one."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.gate.compare import ComparedRow, Comparison
from edgekit.report import figures
from edgekit.report.comparison import APART, COLUMNS, cell, present
from edgekit.report.html import page
from edgekit.report.markup import Markup, join, tag
from edgekit.report.runs_page import style
from edgekit.report.table import badge, missing, soft, table


def render(comparison: Comparison, reports: Mapping[str, str], measures: Mapping[str, str]) -> str:
    """Return the page. ``reports`` and ``measures``: by run, the address of its report, and that of this page with
    this run as the one that the others are held against.
    """
    targets = dict.fromkeys(row.target for row in comparison.rows)
    first = comparison.runs[0].run
    facts = f"Changes are against {first}; + is more and {figures.MINUS} is less than there."
    return page(
        "Builds compared: edgekit",
        tag(
            "header",
            tag("h1", f"{len(comparison.runs)} builds compared"),
            tag("p", join(facts, " ", tag("a", "All builds", href="/")), class_="soft"),
        ),
        tag(
            "main",
            tag("div", _runs(comparison, reports, measures), class_="panel"),
            *(_target(comparison, target) for target in targets),
            _apart(comparison),
        ),
        tag("footer", "This judges nothing: whether a build passes is what edgekit check says."),
        style=style(),
    )


def _runs(comparison: Comparison, reports: Mapping[str, str], measures: Mapping[str, str]) -> Markup:
    rows = [
        [
            tag("a", run.run, href=reports[run.run]),
            join(run.label),
            join(str(run.exit_code)),
            tag("a", "hold the others against it", href=measures[run.run], class_="measure")
            if number
            else soft("the measure"),
        ]
        for number, run in enumerate(comparison.runs)
    ]
    return table("Builds", ["Build", "Built, from", "Exit code", "Measure"], rows)


def _target(comparison: Comparison, target: str) -> Markup:
    rows = [row for row in comparison.rows if row.target == target]
    metrics = present(rows)
    head = ["Build", "Verdict", "Ships", *(COLUMNS[name] for name in metrics)]
    cells = [[*_named(row), *(join(cell(row, name)) for name in metrics)] for row in rows]
    return tag("div", table(target, head, cells, numbers=range(3, len(head))), class_="panel")


def _named(row: ComparedRow) -> list[Markup]:
    verdict = badge(figures.OUTCOME_WORDS[row.outcome], row.outcome)
    return [join(row.run), verdict, join(row.ships) if row.ships else missing("nothing")]


def _apart(comparison: Comparison) -> Markup | None:
    if not comparison.differences:
        return None
    listed = (tag("li", item) for item in comparison.differences)
    head = tag("h2", f"{APART} not under the conditions of {comparison.runs[0].run}")
    return tag("div", head, tag("ul", *listed, class_="plain"), class_="panel")
