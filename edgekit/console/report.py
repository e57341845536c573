"""What a build came to: a table and a sentence for each target."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from edgekit.report.device_section import device_lines
from edgekit.report.diagnosis_section import summary
from edgekit.report.schema import Report, TargetReport, Variant


def show_report(report: Report) -> None:
    """Print one table and one sentence per target."""
    out = Console(highlight=False)
    for failure in report.failures:
        out.print(f"\n[red]✗ {escape(failure.step)} failed:[/] {escape(failure.message.splitlines()[0])}")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in _COLUMNS:
        table.add_column(name, justify=justify, no_wrap=name != "target")  # type: ignore[arg-type]
    for verdict in report.targets:
        _rows(table, verdict)
    out.print()
    out.print(table)
    timed = {v.latency.place for verdict in report.targets for v in verdict.variants if v.latency}
    if "host" in timed:
        out.print(
            f"[dim]ms: min on this host ({escape(report.environment.cpu)}), 1 run interleaved; never the board's.[/]"
        )
    for verdict in report.targets:
        for line in device_lines(verdict):
            out.print(f"[dim]{escape(verdict.target)}: {escape(line)}[/]")
    out.print()
    for verdict in report.targets:
        mark = "[green]✓[/]" if verdict.outcome == "passed" else "[red]✗[/]"
        out.print(f"{mark} {escape(verdict.sentence)}")
        for variant in verdict.variants:
            if variant.diagnosis:
                why = Padding(f"{escape(variant.name)}: {escape(summary(variant.diagnosis))}", (0, 0, 0, 2))
                out.print(why, style="dim")


_COLUMNS = (("target", "left"), ("variant", "left"), ("kB", "right"), ("ms", "right"), ("speed", "right"),
            ("accuracy", "right"), ("drop", "right"), ("", "left"))  # fmt: skip


def _rows(table: Table, verdict: TargetReport) -> None:
    for number, variant in enumerate(verdict.variants):
        if number and variant.name != verdict.shipped:
            continue
        ships = variant.name == verdict.shipped
        table.add_row(
            escape(verdict.target) if not number else "",
            f"[bold]{variant.name}[/]" if ships else variant.name,
            f"{variant.size_bytes / 1000:.0f}" if variant.size_bytes else "-",
            _milliseconds(variant.latency.min_ms) if variant.latency else "-",
            f"{variant.speedup:.1f}x" if variant.speedup else "-",
            _accuracy(variant),
            _drop(variant),
            "[green]ships[/]" if ships else ("baseline" if not number else variant.status),
        )


def _milliseconds(value: float) -> str:
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _accuracy(variant: Variant) -> str:
    return f"{100 * variant.accuracy.value:.2f}" if variant.accuracy else "unscored"


def _drop(variant: Variant) -> str:
    if variant.accuracy is None or variant.accuracy.drop_points is None or not variant.steps:
        return ""
    return f"{-variant.accuracy.drop_points:+.2f}"
