"""An expected error: what happened, then what to do."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from edgekit.errors import EdgekitError


def show_error(error: EdgekitError) -> None:
    """Print an expected error: what happened, then what to do."""
    err = Console(stderr=True, highlight=False)
    err.print(f"[bold red]error:[/] {escape(error.message)}", soft_wrap=True)
    if error.hint:
        err.print(escape(error.hint), style="dim", soft_wrap=True)
