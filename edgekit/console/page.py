"""Show the page that somebody is to open: its address, a QR code for a phone, and what it can do from there."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from io import StringIO
from typing import Any

from rich.console import Console
from rich.markup import escape

from edgekit.devices.browser_address import LOOPBACK, Address

# Without segno, of the extra `web`, the address has to be enough.
segno: Any = importlib.import_module("segno") if find_spec("segno") else None


def show_page(address: Address) -> None:
    """Print on stderr: stdout is for the result."""
    err = Console(stderr=True, highlight=False)
    err.print(f"Open this page in the browser to measure: [bold]{escape(address.url)}[/]", soft_wrap=True)
    if address.host == LOOPBACK:
        port = address.port
        err.print(
            f"[dim]A phone on a cable opens the same page after: adb reverse tcp:{port} tcp:{port}", soft_wrap=True
        )
        err.print("[dim]A phone in the network: --listen 0.0.0.0", soft_wrap=True)
        return
    if err.is_terminal and (code := qr_code(address.url)):
        err.print(code, soft_wrap=True)
    err.print(
        "[dim]Over the network a browser gives one thread, no WebGPU and a coarse clock; "
        "it gives more on localhost (adb reverse).",
        soft_wrap=True,
    )


def qr_code(text: str) -> str:
    """Return the code as lines of half blocks, or "" where segno is not installed."""
    if segno is None:
        return ""
    drawn = StringIO()
    segno.make(text, error="m").terminal(out=drawn, compact=True)
    return drawn.getvalue()
