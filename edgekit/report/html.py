"""The report as one self-contained page: no network, readable in print, on a phone and without its small script."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from string import Template

from edgekit.report import background, figures
from edgekit.report.card import card
from edgekit.report.markup import Markup, escape, join, tag
from edgekit.report.pruning_section import pruning
from edgekit.report.schema import Report
from edgekit.report.target_section import section


def render(report: Report) -> str:
    """Return the page; everything that came from data is escaped."""
    skip = tag("a", "Skip to the verdicts", href="#verdicts", class_="skip")
    return page(f"{report.name}: edgekit report", _header(report), _main(report), _footer(report), skip=skip)


def page(title: str, *parts: Markup, skip: Markup | None = None, style: str = "") -> str:
    """Return ``parts`` as a whole page with its style and script, then ``style``; ``skip`` is the link before them.

    The page's policy names the script by its hash: no other script runs in it, wherever it may come from.
    """
    folder = files("edgekit.report")
    template = Template((folder / "page.html").read_text(encoding="utf-8"))
    style = (folder / "page.css").read_text(encoding="utf-8") + style
    script = (folder / "page.js").read_text(encoding="utf-8")
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return template.substitute(
        title=escape(title), style=style, script=script, script_hash=f"sha256-{script_hash}",
        body=join(skip, tag("div", *parts, class_="wide")),
    )  # fmt: skip


def _header(report: Report) -> Markup:
    source = report.source
    outcome = overall(report)
    facts = (
        f"{source.path} ({source.format}, {figures.size(source.size_bytes)}), {source.task}, "
        f"scored on {report.test_samples} test samples. Built {day(report.created)}."
    )
    return tag(
        "header",
        tag(
            "div",
            tag("h1", report.name),
            tag("span", outcome[1], class_=f"badge {outcome[0]}"),
            class_="headline",
        ),
        tag("p", facts, class_="soft"),
    )


def _main(report: Report) -> Markup:
    cards = [card(target, index) for index, target in enumerate(report.targets)]
    return tag(
        "main",
        background.failures(report),
        tag("div", *cards, class_="cards", id="verdicts"),
        _contents(report),
        *(section(target, index) for index, target in enumerate(report.targets)),
        pruning(report),
        background.environment(report),
    )


def _contents(report: Report) -> Markup:
    links = [(f"#target-{index}", target.title) for index, target in enumerate(report.targets)]
    if report.prune is not None:
        links.append(("#pruning", "Pruning"))
    links.append(("#environment", "Source and environment"))
    items = (tag("li", tag("a", name, href=to)) for to, name in links)
    return tag("nav", tag("ul", *items), aria_label="Contents")


def _footer(report: Report) -> Markup:
    return tag(
        "footer",
        f"edgekit {report.environment.edgekit}. Every figure here is in report.json, with its raw samples. "
        "Milliseconds measured on the host are the host's; a board has figures only where it was measured.",
    )


def overall(report: Report) -> tuple[str, str]:
    """Return the kind of the badge of a whole build, and its words."""
    outcomes = {target.outcome for target in report.targets}
    if report.failures or outcomes & {"failed", "unscored"} or not outcomes:
        return "failed", f"Failed, exit code {report.exit_code}"
    if report.exit_code == 0 and outcomes == {"passed"}:
        number = len(report.targets)
        return "passed", f"All {number} targets passed" if number > 1 else "Passed"
    return "missed", f"Budget missed, exit code {report.exit_code}"


def day(created: str) -> str:
    """Return a report's time of creation for people."""
    day, _, clock = created.partition("T")
    return f"{day} {clock[:5]} UTC" if clock else created
