"""What a build will do, what it cannot, and what should be known of it."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape

from edgekit.steps import BuildPlan

_STAGES = ("prune", "quantize", "finetune", "convert", "profile")


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
