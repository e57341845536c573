"""What files were measured to need and to score, on this host or on a device."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


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
