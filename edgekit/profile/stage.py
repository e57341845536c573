"""The profile stage's latency half: all artifacts of one format, timed in turns, here or on a connected device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.devices import open_device
from edgekit.errors import EdgekitError
from edgekit.profile.latency import Examined, Job, examine, measure
from edgekit.profile.reference import expected_tolerance, with_reference
from edgekit.profile.schedule import Settings
from edgekit.progress import Progress
from edgekit.report.schema import DeviceRun, DeviceState

# the same library computed the expected outputs in this build; one int8 step may round the other way
_TOLERANCE = 2 / 255


def latency(
    *, out: Path, progress: Progress, jobs: list[dict[str, Any]], inputs: Path, threads: int,
    device: str, settings: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Time every job, interleaved. ``jobs``: name, format, path, expected.

    Returns ``measured``, a Latency per name, as JSON, and ``failed``, the message per name of a file that does
    not run or computes wrong values. Raises StageError when all of them fail.
    """
    failed: dict[str, EdgekitError] = {}
    wanted = [
        Job(job["name"], job["path"], job["format"], expected=job["expected"], tolerance=_TOLERANCE) for job in jobs
    ]
    with open_device(device) as opened:
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


def on_device(
    *, out: Path, progress: Progress, jobs: list[dict[str, Any]], inputs: Path | None, threads: int,
    device: str, settings: dict[str, Any], lock_clocks: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Hold every job's outputs on the device against this host's, then time them there, interleaved.

    ``jobs``: name, format, path, expected; without ``expected`` this host's runtime is asked first. ``lock_clocks``
    sets the device's clocks to their highest meanwhile.
    Returns ``runs``, a DeviceRun per name, as JSON, and ``failed`` and ``errors``, message and class per name of a
    file that does not run there or computes wrong values. Raises DeviceError where the device fails, or the first
    file's error where all of them fail.
    """
    failed: dict[str, EdgekitError] = {}
    opened = open_device(device)
    progress(0.0, f"waiting for {opened.name}")
    with opened:
        clocks = opened.lock_clocks() if lock_clocks else ""
        wanted = [
            _with_expected(job, inputs, settings["seed"], out / f"reference-{index}") for index, job in enumerate(jobs)
        ]
        examined = examine(
            wanted, inputs, threads=threads, device=opened, settings=Settings(**settings), progress=progress,
            failed=failed.__setitem__,
        )  # fmt: skip
    if not examined.differences and failed:
        raise next(iter(failed.values()))
    return {
        "runs": {name: _run(opened.name, name, examined, clocks).model_dump() for name in examined.differences},
        "failed": {name: error.message for name, error in failed.items()},
        "errors": {name: type(error).__name__ for name, error in failed.items()},
    }


def _with_expected(job: dict[str, Any], inputs: Path | None, seed: int, folder: Path) -> Job:
    wanted = Job(job["name"], job["path"], job["format"], expected=job["expected"])
    if wanted.expected is None:
        return with_reference(wanted, inputs, seed, folder)
    return replace(wanted, tolerance=expected_tolerance(wanted.path, wanted.format))


def _run(device: str, name: str, examined: Examined, clocks: str) -> DeviceRun:
    facts = examined.before
    return DeviceRun(
        device=device,
        machine=f"{facts['cpu']}, {facts['cores']} cores",
        system=facts["system"],
        emulated=facts["emulated"],
        difference=examined.differences[name],
        latency=examined.latencies.get(name),
        clocks=clocks,
        before=_state(examined.before),
        after=_state(examined.after),
    )


def _state(facts: Mapping[str, Any]) -> DeviceState:
    return DeviceState(**{name: facts[name] for name in DeviceState.model_fields if name in facts})
