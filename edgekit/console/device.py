"""Draw what a connected device did."""

from __future__ import annotations

from itertools import pairwise
from statistics import median
from typing import Any

from rich.console import Console
from rich.markup import escape

from edgekit.console.measured import distinct, show_slowest_ops, show_times
from edgekit.devices.attached import Attached
from edgekit.report.device_section import agreement, energy, executors

_STATES = (
    ("governor", "{}"), ("power_mode", "mode {}"), ("frequency_mhz", "{:.0f} MHz"), ("temperature_c", "{:.1f} °C"),
    ("power_w", "{:.1f} W"),
)  # fmt: skip


def show_runs(runs: dict[str, Any]) -> None:
    """Print whether each file computes there what it computes here, then its times; none of an emulated device."""
    out = Console(highlight=False)
    names = distinct(runs)
    for name, run in runs.items():
        out.print(f"[green]✓[/] {escape(names[name])}: outputs {agreement(run['difference'])}")
    first = next(iter(runs.values()))
    where = f"on {escape(first['device'])} ({escape(first['machine'])}, {escape(first['system'])})"
    timed = {name: run["latency"] for name, run in runs.items() if run["latency"]}
    if not timed:
        out.print(f"[dim]{where}: emulated, so it has no times worth reporting[/]")
        return
    out.print()
    latency = show_times(out, timed)
    out.print(
        f"[dim]{where}, {latency['runtime']} {latency['runtime_version']}, {latency['threads']} thread(s)"
        f"{_states(first)}[/]"
    )
    for name, found in timed.items():
        if facts := [*executors(found.get("nodes", {})), *energy(found.get("energy_mj"))]:
            out.print(f"[dim]{escape(names[name])}: {'; '.join(facts)}[/]", soft_wrap=True)
    show_slowest_ops(out, timed)


def show_over_time(measured: dict[str, Any]) -> None:
    """Print the median of each tenth of the calls, in the order they were made."""
    out = Console(highlight=False)
    timed = {name: found.get("latency", found) for name, found in measured.items()}
    names = distinct(timed)
    out.print("\n[bold]Over time[/]: p50 of each tenth of the run, ms")
    for name, latency in timed.items():
        if latency:
            tenths = " ".join(f"{value:.2f}" for value in over_time(latency["samples_ns"]))
            out.print(f"  {escape(names[name])}\n    {tenths}")


def over_time(samples_ns: list[int], slices: int = 10) -> list[float]:
    """Return the median in ms of each of ``slices`` equal parts of the samples, in order."""
    edges = [len(samples_ns) * index // slices for index in range(slices + 1)]
    parts = [samples_ns[start:end] for start, end in pairwise(edges)]
    return [median(part) / 1e6 for part in parts if part]


def show_attached(found: list[Attached]) -> None:
    """Print each device with what it is and runs, or with what to do about it."""
    out = Console(highlight=False)
    for item in found:
        out.print(f"{'[green]✓[/]' if item.ready else '[red]✗[/]'} [bold]{escape(item.address)}[/]")
        emulated = " (emulated: no times)" if item.emulated else ""
        for line in filter(None, (", ".join(filter(None, (item.machine, item.system))) + emulated,
                                  ", ".join(item.runtimes), item.problem)):  # fmt: skip
            out.print(f"    {escape(line)}", soft_wrap=True)
        if item.cure:
            out.print(f"    {escape(item.cure)}", style="dim", soft_wrap=True)


def _states(run: dict[str, Any]) -> str:
    """Return the settings before, and after where they changed."""
    parts = []
    for key, form in _STATES:
        before, after = run["before"][key], run["after"][key]
        if before not in (None, ""):
            text = form.format(before)
            parts.append(text if before == after or after is None else f"{text} then {form.format(after)}")
    parts += [run["clocks"]] if run.get("clocks") else []
    parts += [f"slowed by: {what}" for what in run["after"]["slowed_by"]]
    return "".join(f"; {part}" for part in parts)
