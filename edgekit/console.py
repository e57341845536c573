"""Everything that is drawn: progress, the plan, the verdict table. Decides nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from edgekit.errors import EdgekitError
from edgekit.report.device_section import device_lines
from edgekit.report.diagnosis_section import summary
from edgekit.report.schema import Report, TargetReport, Variant
from edgekit.steps import BuildPlan, Step
from edgekit.target import Target

_TELL_EVERY_S = 20.0  # where no bar can be drawn
_STAGES = ("prune", "quantize", "finetune", "convert", "profile")


@dataclass
class _Running:
    began: float
    told: float
    bar: TaskID | None


class Live:
    """Progress on stderr: a line per finished step, a bar per running one; plain lines where not a terminal."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.total = 0
        self.done = 0
        self.kept = 0
        self.running: dict[str, _Running] = {}
        self.bars: Progress | None = None
        if self.console.is_terminal:
            self.bars = _bars(self.console)

    def __enter__(self) -> Live:
        if self.bars:
            self.bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.bars:
            self.bars.stop()
        if kind is KeyboardInterrupt:
            self.console.print(f"{self.kept} of {self.total} steps are finished and kept")

    def planned(self, steps: int) -> None:
        self.total += steps

    def started(self, step: Step) -> None:
        now = time.monotonic()
        bar = self.bars.add_task(escape(step.label), total=1.0) if self.bars else None
        self.running[step.id] = _Running(now, now, bar)

    def progressed(self, step: Step, done: float, text: str) -> None:
        running = self.running[step.id]
        if self.bars and running.bar is not None:
            label = step.label if not text else f"{step.stage}: {text}"
            self.bars.update(running.bar, completed=done, description=escape(label[:44]))
        elif time.monotonic() - running.told > _TELL_EVERY_S:
            running.told = time.monotonic()
            self.console.print(f"[dim]  ... {step.stage}: {escape(text)} ({done:.0%})[/]")

    def finished(self, step: Step, reused: bool) -> None:
        self.kept += 1
        took = "reused" if reused else f"{time.monotonic() - self.running[step.id].began:.1f} s"
        self._line(step, "[green]✓[/]", took)

    def failed(self, step: Step, error: EdgekitError) -> None:
        self._line(step, "[red]✗[/]", "failed")
        self.console.print(f"    {escape(error.message)}", style="red")
        if error.hint:
            self.console.print(f"    {escape(error.hint)}", style="dim")

    def skipped(self, step: Step, because: str) -> None:
        self._line(step, "[yellow]-[/]", f"skipped: needs {because}")

    def _line(self, step: Step, mark: str, note: str) -> None:
        self.done += 1
        running = self.running.pop(step.id, None)
        if self.bars and running and running.bar is not None:
            self.bars.remove_task(running.bar)
        count = f"{self.done:>{len(str(self.total))}}/{self.total}"
        self.console.print(f"{mark} [dim]{count}[/] {step.stage:<9}{escape(step.label):<44} [dim]{escape(note)}[/]")


@contextmanager
def waiting(label: str) -> Iterator[Callable[[float, str], None]]:
    """Show one bar on a terminal while something runs; yields the Progress to feed it."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda done, text: None
        return
    with _bars(console) as bars:
        bar = bars.add_task(label, total=1.0)
        yield lambda done, text: bars.update(bar, completed=done, description=escape((text or label)[:44]))


def _bars(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=16),
        TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn(), console=console, transient=True,
    )  # fmt: skip


def show_plan(plan: BuildPlan) -> None:
    """Print what a build would do."""
    out = Console(highlight=False)
    out.print(f"[bold]{len(plan.steps)} steps[/]")
    for stage in _STAGES:
        for step in plan.steps.values():
            if step.stage == stage:
                out.print(f"  {stage:<9}{escape(step.label)}")
    out.print(f"\n[bold]{len(plan.groups)} verdicts[/]")
    for group in plan.groups:
        names = ", ".join(row.name for row in group.rows)
        out.print(f"  {escape(group.target.name)} ({group.format}): {names}")
    show_notes(plan.notes)
    show_refusals(plan)


def show_refusals(plan: BuildPlan) -> None:
    """Say before any work which targets get no file; the exit code is decided by that."""
    err = Console(stderr=True, highlight=False)
    for item in plan.refusals:
        err.print(f"[red]✗[/] {escape(item.target.name)}: the model cannot go there: {escape(item.why)}")
    if plan.refusals:
        err.print("[dim]  The exit code is 4; the other targets are built.[/]")


def show_notes(notes: Iterable[str]) -> None:
    out = Console(stderr=True, highlight=False)
    for note in notes:
        out.print(f"[yellow]note:[/] {escape(note)}")


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


def show_error(error: EdgekitError) -> None:
    """Print an expected error: what happened, then what to do."""
    err = Console(stderr=True, highlight=False)
    err.print(f"[bold red]error:[/] {escape(error.message)}", soft_wrap=True)
    if error.hint:
        err.print(escape(error.hint), style="dim", soft_wrap=True)


def show_latency(measured: dict[str, Any]) -> None:
    """Print one row per timed file, and that this host timed it."""
    out = Console(highlight=False)
    first = show_times(out, measured)
    out.print(
        f"[dim]on this host ({escape(first['machine'])}), {first['runtime']} {first['runtime_version']}, "
        f"{first['threads']} thread(s); never a board's figure[/]"
    )
    show_slowest_ops(out, measured)


def show_times(out: Console, measured: dict[str, Any]) -> dict[str, Any]:
    """Print the table of the latencies, and return the first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("file", "min ms", "p50", "p90", "p99", "speed", "load ms", "peak MB", "flags"):
        table.add_column(name, justify="left" if name in ("file", "flags") else "right", overflow="fold")
    first: dict[str, Any] = next(iter(measured.values()))
    names = distinct(measured)
    for name, figure in measured.items():
        times = [f"{figure[key]:.3f}" for key in ("min_ms", "p50_ms", "p90_ms", "p99_ms")]
        memory = f"{figure['peak_memory_bytes'] / 1e6:.0f}" if figure["peak_memory_bytes"] else "-"
        table.add_row(
            escape(names[name]), *times, f"{first['min_ms'] / figure['min_ms']:.2f}x", f"{figure['load_ms']:.1f}",
            memory, ", ".join(figure["flags"]),
        )  # fmt: skip
    out.print(table)
    return first


def show_slowest_ops(out: Console, measured: dict[str, Any]) -> None:
    """Print the five slowest ops of each file that has per-op times."""
    names = distinct(measured)
    for name, figure in measured.items():
        slowest = sorted(figure["ops"], key=lambda op: -op["ms"])[:5]
        if slowest:
            out.print(f"\n[bold]{escape(names[name])}[/]: slowest ops")
            for op in slowest:
                out.print(f"  {op['ms']:8.3f} ms  {escape(op['kind'])}  [dim]{escape(op['name'][:60])}[/]")


def distinct(paths: Iterable[str]) -> dict[str, str]:
    """Leave away the folder that all have in common."""
    found = [Path(path) for path in paths]
    shared = {path.parent for path in found}
    return {str(path): path.name if len(shared) == 1 else str(path) for path in found}


def show_accuracy(artifact: Path, scored: dict[str, Any]) -> None:
    """Print the task metric of one file."""
    out = Console(highlight=False)
    out.print(f"{escape(str(artifact))}: [bold]{scored['metric']} {100 * scored['value']:.2f}[/]")
    for name, value in scored["secondary"].items():
        out.print(f"  {escape(name)} {100 * value:.2f}")
    out.print(f"[dim]{scored['samples']} test samples in {scored['runtime']} {scored['runtime_version']}[/]")


def show_targets(found: list[Target], *, detailed: bool) -> None:
    """Print the targets, or one with its facts."""
    out = Console(highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("name", "board", "takes, first choice first"):
        table.add_column(name)
    for item in found:
        takes = ", ".join(f"{output.precision} {output.format} ({output.runtime})" for output in item.outputs)
        table.add_row(item.name, item.title, takes)
    out.print(table)
    if detailed:
        item = found[0]
        out.print(f"\nCPU: {item.cpu}\nReached by: {item.device.kind} {item.device.note}")
        for output in item.outputs:
            out.print(f"{output.precision} {output.format}: {output.why}")
        out.print("Its runtime refuses what breaks: " + (", ".join(item.lint) or "no rule"))
        for link in item.sources:
            out.print(f"  {escape(link)}", style="dim")
