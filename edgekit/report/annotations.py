"""GitHub workflow commands: one ``::error`` line per violation, shown at the recipe's line in the pull request.

https://docs.github.com/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

from edgekit.gate.findings import CheckResult, Finding
from edgekit.report.schema import Report

_LEVELS = {"failed": "error", "noted": "notice"}


def render(result: CheckResult, report: Report) -> str:
    """Return the lines; empty where nothing is to be said."""
    return "".join(f"{_line(finding, result.recipe)}\n" for finding in result.findings if finding.found in _LEVELS)


def _line(finding: Finding, recipe: str) -> str:
    title = " ".join(filter(None, ("edgekit:", finding.target, finding.metric or finding.rule)))
    place = {"file": recipe or "edgekit.toml", "line": str(finding.line), "title": title}
    properties = ",".join(f"{name}={_property(value)}" for name, value in place.items())
    return f"::{_LEVELS[finding.found]} {properties}::{_data(finding.message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
