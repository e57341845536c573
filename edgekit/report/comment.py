"""The check as a comment under a pull request: short, with everything else folded away."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.gate.findings import CheckResult, Finding
from edgekit.report import figures, markdown
from edgekit.report.markdown import text
from edgekit.report.schema import Report, TargetReport

MARKER = "<!-- edgekit check -->"  # lets a script find its earlier comment and replace it
_MARKS = {"passed": "✅", "failed": "❌", "noted": "ℹ️"}  # noqa: RUF001 - an emoji
_ROOM = 60_000  # GitHub refuses a comment over 65,536 characters, and a step's summary over 1 MiB


def render(result: CheckResult, report: Report) -> str:
    """Return GitHub-flavoured Markdown: the verdict, the violations, a row per target; the rest folded.

    Where all of it does not fit, the whole report goes first, then what holds, then the last of the violations.
    """
    count = len(result.violations)
    verdict = "passes" if result.passed else f"{count} violation{'s' if count > 1 else ''}"
    head = [MARKER, f"### {_MARKS['passed' if result.passed else 'failed']} edgekit: {text(result.name)}: {verdict}"]
    violations = [f"- {_named(finding)}{text(finding.message)}" for finding in result.violations]
    tail = ["", *_targets(result, report)] if report.targets else []
    if result.baseline:
        tail += ["", f"In brackets: the change against {text(result.baseline)}."]
    checked = _folded(f"All {len(result.findings)} figures and promises that were checked", _all(result))
    whole = _folded("The whole report", markdown.render(report).splitlines())
    for folded in ([*checked, *whole], checked, []):
        lines = [*head, *([""] if violations else []), *violations, *tail, *folded]
        if _length(lines) <= _ROOM:
            return "\n".join(lines) + "\n"
    return "\n".join([*head, "", *_cut([*violations, *tail], _ROOM - _length(head))]) + "\n"


def _cut(lines: Sequence[str], room: int) -> list[str]:
    """Return the first lines, as many as fit, and say how many do not."""
    kept: list[str] = []
    left = room - 100  # for the last line
    for line in lines:
        left -= len(line) + 1
        if left < 0:
            return [*kept, "", f"{len(lines) - len(kept)} more lines: edgekit check says them all."]
        kept.append(line)
    return kept


def _length(lines: Sequence[str]) -> int:
    return sum(len(line) + 1 for line in lines)


def _targets(result: CheckResult, report: Report) -> list[str]:
    head = ["Target", "Ships", "Accuracy", "Size", "Speed-up"]
    rows = [[text(target.title), *_row(target, result)] for target in report.targets]
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---", "---", "---:", "---:", "---:"], *rows)]


def _row(target: TargetReport, result: CheckResult) -> list[str]:
    shipped = figures.find(target, target.shipped)
    if shipped is None:
        return ["**nothing**", "", "", ""]
    changes = {finding.metric: finding for finding in result.findings if finding.target == target.target}
    accuracy = f"{100 * shipped.accuracy.value:.2f}" if shipped.accuracy else "not scored"
    untimed = "baseline" if shipped.name == target.baseline else "not timed"
    speed = figures.factor(shipped.speedup) if shipped.speedup and shipped.steps else untimed
    return [
        text(shipped.name),
        accuracy + _change(changes.get("accuracy"), " points"),
        figures.size(shipped.size_bytes) + _change(changes.get("size"), " %"),
        speed + _change(changes.get("speedup"), " %"),
    ]


def _change(finding: Finding | None, unit: str) -> str:
    if finding is None or finding.change is None:
        return ""
    if finding.before == finding.now:
        return " (same)"
    higher = finding.now is not None and finding.before is not None and finding.now > finding.before
    words = f"{'+' if higher else figures.MINUS}{abs(finding.change):.2g}{unit}"
    return f" (**{words}**)" if finding.found == "failed" else f" ({words})"


def _all(result: CheckResult) -> list[str]:
    return [f"- {_MARKS[finding.found]} {_named(finding)}{text(finding.message)}" for finding in result.findings]


def _named(finding: Finding) -> str:
    return f"**{text(finding.target)}**: " if finding.target else ""


def _folded(summary: str, lines: Sequence[str]) -> list[str]:
    return ["", "<details>", f"<summary>{summary}</summary>", "", *lines, "", "</details>"] if lines else []
