"""The boards that edgekit knows, or one with its facts."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgekit.target import Target


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
