"""Progress of a build and of single tasks, on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from edgekit.errors import EdgekitError
from edgekit.steps import Step

_TELL_EVERY_S = 20.0  # where no bar can be drawn


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
