"""GitHub workflow commands: an ``::error`` line per violation, shown at the recipe's line in the pull request.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
GitHub shows ten of a level for each step of a job, and says nothing of the others: the tenth says how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgekit.gate.findings import CheckResult, Finding
from edgekit.report.schema import Report

_LEVELS = {"failed": "error", "noted": "notice"}
_SHOWN = 10


def render(result: CheckResult, report: Report) -> str:
    """Return the lines; empty where nothing is to be said."""
    return "".join(f"{line}\n" for found in _LEVELS for line in _of_level(result, found))


def _of_level(result: CheckResult, found: str) -> Iterator[str]:
    findings = [finding for finding in result.findings if finding.found == found]
    whole = len(findings) <= _SHOWN
    for finding in findings if whole else findings[: _SHOWN - 1]:
        yield _line(finding, result.recipe)
    if not whole:
        rest = f"{len(findings) - _SHOWN + 1} more: see the job's summary, or run edgekit check"
        yield f"::{_LEVELS[found]} title=edgekit::{_data(rest)}"


def _line(finding: Finding, recipe: str) -> str:
    title = " ".join(filter(None, ("edgekit:", finding.target, finding.metric or finding.rule)))
    place = {"file": recipe or "edgekit.toml", "line": str(finding.line), "title": title}
    properties = ",".join(f"{name}={_property(value)}" for name, value in place.items())
    return f"::{_LEVELS[finding.found]} {properties}::{_data(finding.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
