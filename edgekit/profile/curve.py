"""Accuracy and latency of every network that pruning made, beside the unpruned one and its control: one curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit import tasks
from edgekit.devices import open_device
from edgekit.errors import EdgekitError
from edgekit.profile import accuracy
from edgekit.profile.latency import Job, measure
from edgekit.profile.reference import with_reference
from edgekit.profile.schedule import Settings
from edgekit.progress import Progress
from edgekit.report.schema import CurvePoint, Gap
from edgekit.tasks.predictions import load_predictions

UNPRUNED, CONTROL = "unpruned", "control"


def run(
    *, out: Path, progress: Progress, files: Path, unpruned: Path, predictions: Path, format: str, inputs: Path,
    dataset: dict[str, Any], task: dict[str, Any], resamples: int, seed: int, threads: int,
    settings: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Score every file on the test samples and time all of them in turns; return ``points``, CurvePoint as JSON.

    ``files``: a folder of float files by name, those of the control named ``control...``. ``unpruned``: the file
    they are compared with, and its ``predictions``. Every point has its drop against the unpruned network, and
    against the control of the same seed (the first where there is none), with paired intervals. No files, no points.
    """
    if not any(files.iterdir()):
        return {"points": [], "format": format}  # nothing was pruned
    paths = {UNPRUNED: unpruned} | {file.stem: file for file in sorted(files.glob(f"*.{format}"))}
    scored: dict[str, dict[str, Any]] = {}
    for number, (name, path) in enumerate(paths.items()):
        (out / name).mkdir()
        scored[name] = accuracy.run(
            out=out / name, progress=_part(progress, number, len(paths), name), artifact=path, format=format,
            dataset=dataset, task=task, baseline=None if name == UNPRUNED else predictions, resamples=resamples,
            seed=seed,
        )  # fmt: skip
    latencies, failed = _timed(out, progress, paths, format, inputs, threads, settings)
    gaps = _against_control(out, list(paths), dataset, task, resamples, seed)
    points = [
        CurvePoint(name=name, accuracy=scored[name], latency=latencies.get(name), against_control=gaps.get(name),
                   latency_note=failed.get(name, ""))
        for name in paths
    ]  # fmt: skip
    return {"points": [point.model_dump() for point in points], "format": format}


def _part(progress: Progress, number: int, total: int, name: str) -> Progress:
    return lambda done, text: progress(0.6 * (number + done) / total, f"{name}: {text}")


def _timed(
    out: Path, progress: Progress, paths: dict[str, Path], format: str, inputs: Path, threads: int,
    settings: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, str]]:  # fmt: skip
    failed: dict[str, EdgekitError] = {}
    jobs = [
        with_reference(Job(name, path, format), inputs, settings["seed"], out / f"reference-{name}")
        for name, path in paths.items()
    ]
    with open_device("local") as device:
        measured = measure(
            jobs, inputs, threads=threads, device=device, settings=Settings(**settings),
            progress=lambda done, text: progress(0.6 + 0.35 * done, text), failed=failed.__setitem__,
        )  # fmt: skip
    return measured, {name: error.message for name, error in failed.items()}


def _against_control(
    out: Path, names: list[str], dataset: dict[str, Any], task: dict[str, Any], resamples: int, seed: int
) -> dict[str, Gap]:
    controls = [name for name in names if name.startswith(CONTROL)]
    if not controls:
        return {}
    scorer = tasks.load(task["kind"], task.get("adapter"))
    samples = accuracy.opened(dataset, labelled=task["kind"] != "generic")
    identity = accuracy.sample_set(samples)
    known = {name: load_predictions(out / name / accuracy.PREDICTIONS, identity) for name in names}
    gaps = {}
    for name in names:
        same_seed = [control for control in controls if control.partition("seed-")[2] == name.partition("seed-")[2]]
        control = (same_seed or controls)[0]
        if name == control:
            continue
        truth = known[control] if task["kind"] == "generic" else samples.truth
        drop = scorer.drop(known[control], known[name], truth, samples.classes, resamples, seed)
        gaps[name] = Gap(control=control, points=drop.points, low_points=drop.low_points, high_points=drop.high_points)
    return gaps
