"""Where a device measured: what it is, whether it computes what the host computes, both times side by side."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.report import figures
from edgekit.report.schema import DeviceState, TargetReport, Variant


def device_lines(target: TargetReport) -> list[str]:
    """Return sentences about the target's device; none where none was attached."""
    runs = [(variant, variant.device) for variant in target.variants if variant.device]
    if not runs:
        return []
    first = runs[0][1]
    lines = [f"Device {first.device}: {first.machine}, {first.system}."]
    lines += [f"{variant.name}: outputs {agreement(run.difference)}." for variant, run in runs]
    if first.emulated:
        return [*lines, "The device is emulated: it computes right, and its time means nothing, so none is given."]
    for variant, run in runs:
        if run.latency and (facts := [*executors(run.latency.nodes), *energy(run.latency.energy_mj)]):
            lines.append(f"{variant.name}: {'; '.join(facts)}.")
    lines += [f"Its clocks were locked: {first.clocks}."] if first.clocks else []
    return [*lines, _settings(first.before, first.after)]


def executors(nodes: Mapping[str, int]) -> list[str]:
    """Say what runs how many nodes of a network; nothing where the runtime does not."""
    most_first = sorted(nodes.items(), key=lambda item: -item[1])
    shown = [f"{count} by {name}" for name, count in most_first if count]
    return [f"nodes: {', '.join(shown)}"] if shown else []


def energy(energy_mj: float | None) -> list[str]:
    """Say what one call takes from the board's supply; nothing where no rail was read."""
    return [] if energy_mj is None else [f"{energy_mj:.3g} mJ per inference, whole board"]


def agreement(difference: float | None) -> str:
    """Say how the outputs there compare with this host's."""
    if difference is None:
        return "not compared with this host's"
    if difference == 0:
        return "equal to this host's, bit by bit"
    if difference == 1:
        return "within one step of this host's"
    return f"within {difference:.1g} of their range of this host's"


def beside(variant: Variant) -> str:
    """Return the host's time for a row that a device timed, or nothing."""
    return f"on this host {figures.milliseconds(variant.host_latency.p50_ms)}" if variant.host_latency else ""


def _settings(before: DeviceState, after: DeviceState) -> str:
    """Return the settings that decide speed, before and, where they changed, after."""
    parts = []
    for name, form in _STATES:
        one, two = getattr(before, name), getattr(after, name)
        if one not in (None, ""):
            parts.append(form.format(one) + (f", then {form.format(two)}" if two not in (None, one) else ""))
    parts += [f"slowed by {what}" for what in after.slowed_by]
    return f"Its state: {'; '.join(parts)}." if parts else "It says nothing of governor, frequency or temperature."


_STATES = (
    ("governor", "governor {}"),
    ("power_mode", "power mode {}"),
    ("frequency_mhz", "{:.0f} MHz"),
    ("temperature_c", "{:.1f} °C"),
    ("power_w", "{:.1f} W"),
    ("load", "load {:.2f}"),
)
