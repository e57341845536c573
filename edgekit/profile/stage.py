"""The profile stage's latency half: all artifacts of one format, timed in turns on one device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.devices import open_device
from edgekit.profile.latency import Job, measure
from edgekit.profile.schedule import Settings
from edgekit.progress import Progress

# the same library computed the expected outputs in this build; one int8 step may round the other way
_TOLERANCE = 2 / 255


def latency(
    *, out: Path, progress: Progress, jobs: list[dict[str, Any]], inputs: Path, threads: int,
    device: str, settings: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Time every job, interleaved. ``jobs``: name, format, path, expected. Returns a Latency per name, as JSON."""
    wanted = [
        Job(job["name"], job["path"], job["format"], expected=job["expected"], tolerance=_TOLERANCE) for job in jobs
    ]
    with open_device(device) as opened:
        measured = measure(
            wanted, inputs, threads=threads, device=opened, settings=Settings(**settings), progress=progress
        )
    return {name: figure.model_dump() for name, figure in measured.items()}
