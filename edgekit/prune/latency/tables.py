"""Get the table of each place: from the user's cache, and by timing what is not in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from edgekit.devices import Device
from edgekit.progress import Progress
from edgekit.prune.latency import cache
from edgekit.prune.latency.grid import Grid, all_points
from edgekit.prune.latency.measure import measure
from edgekit.prune.latency.table import Place, Table

RUNTIMES = {"tflite": ("ai-edge-litert", "tflite-runtime"), "onnx": ("onnxruntime",)}
PRECISIONS = ("float32", "int8")


@dataclass
class Found:
    """A table, how many of its points were timed now, and what the user should know."""

    table: Table
    timed: int = 0
    notes: list[str] = field(default_factory=list)


def place_of(device: Device, format: str, precision: str, threads: int) -> Place | None:
    """Return a place on a device; None where it has no runtime for the format, or its times mean nothing."""
    facts = device.describe()
    runtime = next((name for name in facts["runtimes"] if name.split()[0] in RUNTIMES[format]), None)
    if runtime is None or facts["emulated"]:
        return None
    return Place(device.name, str(facts["cpu"]), runtime, format, precision, threads)


def table_of(
    place: Place, grids: Sequence[Grid | None], device: Device, seconds: float, progress: Progress | None = None
) -> Found:
    """Return the times of all points of the grids at a place; ``seconds`` bounds the timing (``measure``)."""
    known, note = cache.load(place)
    points = all_points(grids)
    missing = [point for point in points if point.key not in known]
    notes = [note] if note else []
    if missing:
        timed = measure(
            missing, device=device, format=place.format, int8=place.precision == "int8",
            threads=place.threads, seconds=seconds, progress=progress,
        )  # fmt: skip
        known = cache.add(place, {point.key: spent for point, spent in timed.points.items()})
        kinds = sorted({f"{point.shape.kind} ({why})" for point, why in timed.refused.items()})
        notes += [f"{place.title}: {kind} could not be timed and counts by its MACs." for kind in kinds]
    table = Table(place, {point.key: known[point.key] for point in points if point.key in known})
    return Found(table, len(missing), notes)
