"""What is installed, and whether an artifact is what it says, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgekit.installed import PROGRAMS, Need
from edgekit.report.schema import Environment
from edgekit.verify import Claim

_MARKS = {"holds": "[green]✓[/]", "broken": "[red]✗[/]", "noted": "[yellow]note:[/]"}


def show_environment(machine: Environment, needs: Sequence[Need], programs: dict[str, str]) -> None:
    """Print the machine, every library with what is wrong, and the command that puts it right."""
    out = Console(highlight=False)
    out.print(f"edgekit {machine.edgekit}, Python {machine.python}, {escape(machine.system)}, {machine.machine}")
    out.print(f"{escape(machine.cpu)}, {machine.cores} cores, {machine.memory_bytes / 1e9:.1f} GB\n")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("library", "installed", "wanted", ""):
        table.add_column(name, overflow="fold")
    for need in needs:
        part = f" [dim]({need.extra})[/]" if need.extra else ""
        state = "[green]✓[/]" if need.fits else "[red]✗[/]" if not need.extra else "[yellow]-[/]"
        table.add_row(f"{need.name}{part}", need.found or "missing", escape(need.wanted), state)
    for name, path in programs.items():
        table.add_row(f"{name} [dim](program)[/]", escape(path) or "missing", "", "[green]✓[/]" if path else "-")
    out.print(table)
    wrong = [need.cure for need in needs if not need.fits and not need.extra]
    if wrong:
        out.print("\n[bold]To put it right:[/]")
        for cure in wrong:
            out.print(f"  {escape(cure)}", soft_wrap=True)
    optional = [need for need in needs if not need.fits and need.extra]
    absent = [name for name, path in programs.items() if not path]
    if optional or absent:
        out.print("\n[bold]Optional:[/]")
        for extra, command in dict.fromkeys((need.extra, need.command) for need in optional):
            cure = f"{command}   # {extra}" if command else f"pip install -e '.[{extra}]'   # in the checkout"
            out.print(f"  {escape(cure)}", soft_wrap=True)
        for name in absent:
            out.print(f"  {PROGRAMS[name]}   # {name}", soft_wrap=True)


def show_claims(artifact: str, claims: Sequence[Claim]) -> None:
    """Print what no longer matches, one line each, and the outcome."""
    out = Console(highlight=False)
    for claim in claims:
        if claim.found != "holds":
            out.print(f"{_MARKS[claim.found]} {escape(claim.what)}: {escape(claim.detail)}", soft_wrap=True)
    broken = sum(claim.found == "broken" for claim in claims)
    held = sum(claim.found == "holds" for claim in claims)
    mark = _MARKS["broken" if broken else "holds"]
    out.print(f"{mark} {escape(artifact)}: {held} claims hold" + (f", {broken} do not" if broken else ""))
