"""The builds of a folder as a page: what each came to on every target, and a form that chooses some to compare."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from edgekit.report import figures
from edgekit.report.html import day, overall, page
from edgekit.report.markup import Markup, join, tag
from edgekit.report.schema import Report, TargetReport
from edgekit.report.table import badge, missing, soft, table
from edgekit.report.three_numbers import three_numbers

_HEAD = ("Target", "Verdict", "Ships", "Speed-up", "Smaller by", "Accuracy, points")


def render(folder: str, runs: Sequence[tuple[str, str, Report]], unreadable: Sequence[tuple[str, str]]) -> str:
    """Return the page. ``runs``: the id in addresses, the place and the report of each, in the order of the list;
    ``unreadable``: the place of others, and why.
    """
    count = f"{len(runs)} build{'' if len(runs) == 1 else 's'}" if runs else "No builds yet"
    hint = "Newest first. Choose two or more and compare them." if len(runs) > 1 else ""
    listed = join(*(_run(*run) for run in runs))
    if len(runs) > 1:
        listed = tag("form", _button(), listed, action="/compare", method="get", class_="runs")
    return page(
        f"{folder}: edgekit builds",
        tag("header", tag("h1", count), tag("p", join(tag("code", folder), " ", hint), class_="soft")),
        tag("main", listed, _empty(runs), _broken(unreadable)),
        tag("footer", "Every figure here is in the report.json of its build. Reload the page to see new builds."),
        style=style(),
    )


def style() -> str:
    """Return the rules that only pages over several runs need."""
    return (files("edgekit.report") / "runs.css").read_text(encoding="utf-8")


def _button() -> Markup:
    return tag("p", tag("button", "Compare the chosen builds", type="submit"), class_="bar")


def _run(id: str, place: str, report: Report) -> Markup:
    kind, words = overall(report)
    box = tag("input", type="checkbox", name="run", value=id, aria_label=f"Compare {place}")
    facts = f"{report.source.path}, {report.source.task}. Built {day(report.created)} in {report.duration_s:.0f} s."
    rows = [_target(target) for target in report.targets]
    return tag(
        "section",
        tag(
            "div",
            tag("h2", tag("label", box, " ", place)),
            badge(words, kind),
            tag("a", "Report", href=f"/run/{id}/report.html", aria_label=f"Report of {place}"),
            class_="section-head",
        ),
        tag("p", facts, class_="where"),
        table(f"What ships of {place}", _HEAD, rows, numbers=(3, 4, 5)) if rows else missing("no target has a verdict"),
        class_="panel run",
    )


def _target(target: TargetReport) -> list[Markup]:
    numbers = [
        join(number.value, soft(number.note)) if number.known else join(missing(number.value), soft(number.note))
        for number in three_numbers(target)
    ]
    return [
        join(target.target),
        badge(figures.OUTCOME_WORDS[target.outcome], target.outcome),
        join(target.shipped) if target.shipped else missing("nothing"),
        *(numbers or [missing("-")] * 3),
    ]


def _empty(runs: Sequence[object]) -> Markup | None:
    return None if runs else tag("p", "A build writes its report there: edgekit build -o FOLDER", class_="empty")


def _broken(unreadable: Sequence[tuple[str, str]]) -> Markup | None:
    if not unreadable:
        return None
    lines = (tag("li", tag("strong", place), ": ", why) for place, why in unreadable)
    summary = tag("summary", f"{len(unreadable)} report.json here that this edgekit does not read")
    return tag("details", summary, tag("ul", *lines, class_="plain"), class_="panel")
