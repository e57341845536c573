"""What stands behind every target: failures, source and environment."""

from __future__ import annotations

from edgekit.report import figures
from edgekit.report.markup import Child, Markup, facts, tag
from edgekit.report.raw_data import raw_data
from edgekit.report.schema import Failure, Report


def failures(report: Report) -> Markup | None:
    """Return what failed, above everything else, or nothing."""
    if not report.failures:
        return None
    return tag(
        "div",
        tag("h2", "Failed: what depends on it does not exist"),
        tag("ul", *(_failure(failure) for failure in report.failures), class_="plain"),
        class_="panel alert",
        style="margin:0 0 20px",
    )


def environment(report: Report) -> Markup:
    """Return where the model came from and what it was built and measured with."""
    source, machine = report.source, report.environment
    warnings = [*source.warnings, *report.warnings]
    rows: list[tuple[str, Child]] = [
        ("Source", f"{source.path}, {source.format}, {figures.size(source.size_bytes)}"),
        ("Source sha256", tag("code", source.sha256)),
        ("Recipe sha256", tag("code", report.recipe_sha256)),
        ("Samples", f"{report.test_samples} to test, {report.calibration_samples} to calibrate"),
        ("Took", f"{report.duration_s:.0f} s"),
        ("Processor", f"{machine.cpu}, {machine.cores} cores, {machine.memory_bytes / 1e9:.1f} GB"),
        ("System", f"{machine.system}, {machine.machine}, Python {machine.python}"),
        ("Libraries", ", ".join(f"{name} {version}" for name, version in machine.libraries.items())),
    ]
    if source.parameters is not None:
        rows.insert(1, ("Parameters", figures.count(source.parameters)))
    listed = tag("ul", *(tag("li", warning) for warning in warnings), class_="plain")
    return tag(
        "section",
        tag("h2", "Source and environment", id="title-environment"),
        tag("div", facts(rows), class_="panel"),
        tag("div", tag("h3", "Raw data"), raw_data(report), class_="panel"),
        tag("div", tag("h3", "Warnings"), listed, class_="panel") if warnings else None,
        id="environment",
        aria_labelledby="title-environment",
    )


def _failure(failure: Failure) -> Markup:
    targets = f" ({', '.join(failure.targets)})" if failure.targets else ""
    hint = tag("div", failure.hint, class_="soft") if failure.hint else None
    words = f"{targets}: {failure.message} [{failure.error}, exit code {failure.exit_code}]"
    return tag("li", tag("strong", failure.step), words, hint)
