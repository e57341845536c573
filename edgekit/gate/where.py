"""The line of the recipe that sets what was violated, for annotations in a pull request."""

from __future__ import annotations

import re
from pathlib import Path

from edgekit.gate.findings import CheckResult, Finding
from edgekit.report.schema import Compared

_KEYS: dict[str, Compared] = {
    "accuracy": "accuracy_points",
    "size": "size_percent",
    "speedup": "speedup_percent",
    "latency": "latency_percent",
    "memory": "memory_percent",
}
_TABLE = re.compile(r"\s*\[([^\[\]]+)\]")


def located(result: CheckResult, recipe: Path) -> CheckResult:
    """Return the result with the recipe's path, and a line of it for every finding; 1 where none fits."""
    try:
        lines = recipe.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return result
    findings = [finding.model_copy(update={"line": _line(finding, lines)}) for finding in result.findings]
    return result.model_copy(update={"findings": findings})


def _line(finding: Finding, lines: list[str]) -> int:
    if finding.rule == "budget-missed":
        places = [("budget", finding.metric), ("budget", ""), ("targets", "names")]
    else:
        key = _KEYS.get(finding.metric, "")
        own = [(f"check.targets.{name}", key) for name in (finding.target, f'"{finding.target}"')]
        places = [*own, ("check", key), ("check", ""), ("targets", "names")]
    return next((number for table, key in places if (number := _find(lines, table, key))), 1)


def _find(lines: list[str], table: str, key: str) -> int:
    """Return the number, from 1, of the line that sets ``key`` in ``table`` (of the head where it is ""), or 0."""
    inside = False
    for number, line in enumerate(lines, 1):
        head = _TABLE.match(line)
        if head:
            inside = head[1].strip() == table
            if inside and not key:
                return number
        elif inside and key and re.match(rf"\s*{re.escape(key)}\s*=", line):
            return number
    return 0
