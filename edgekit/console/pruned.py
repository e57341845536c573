"""What `edgekit prune` came to."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgekit.report.pruning_section import pruning_facts
from edgekit.report.schema import PruneSummary


def show_pruned(prune: PruneSummary) -> None:
    """Print what was cut and how it was taught, on stderr: the files are the result."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for title, text in pruning_facts(prune):
        table.add_row(title, escape(text))
    if prune.frozen:
        table.add_row("Left alone", escape("; ".join(prune.frozen[:_SHOWN]) + _more(len(prune.frozen) - _SHOWN)))
    Console(stderr=True, highlight=False).print(table)


def _more(count: int) -> str:
    return f"; and {count} more, which the report of a build lists" if count > 0 else ""


_SHOWN = 3
