"""The profile stage's latency half: all artifacts of one format, timed in turns on one device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.devices import open_device
from edgekit.errors import StageError
from edgekit.profile.latency import Job, measure
from edgekit.profile.reference import with_reference
from edgekit.profile.schedule import Settings
from edgekit.progress import Progress

# the same library computed the expected outputs in this build; one int8 step may round the other way
_TOLERANCE = 2 / 255


def latency(
    *, out: Path, progress: Progress, jobs: list[dict[str, Any]], inputs: Path, threads: int,
    device: str, settings: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Time every job, interleaved. ``jobs``: name, format, path, expected.

    Off this host, a job without expected outputs gets those that this host computes.
    Returns ``measured``, a Latency per name, as JSON, and ``failed``, the message per name of a file that does
    not run or computes wrong values. Raises StageError when all of them fail.
    """
    failed: dict[str, StageError] = {}
    wanted = [
        Job(job["name"], job["path"], job["format"], expected=job["expected"], tolerance=_TOLERANCE) for job in jobs
    ]
    opened = open_device(device)
    if opened.place == "device":
        wanted = [
            job if job.expected else with_reference(job, inputs, settings["seed"], out / f"reference-{index}")
            for index, job in enumerate(wanted)
        ]
    with opened:
        measured = measure(
            wanted, inputs, threads=threads, device=opened, settings=Settings(**settings), progress=progress,
            failed=failed.__setitem__,
        )  # fmt: skip
    if not measured:
        raise next(iter(failed.values()))
    return {
        "measured": {name: figure.model_dump() for name, figure in measured.items()},
        "failed": {name: error.message for name, error in failed.items()},
    }
