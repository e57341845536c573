"""Measure one file without a build: the same functions, in the same child process."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgekit import recipe, worker
from edgekit.diagnose.schema import Diagnosis
from edgekit.errors import RecipeError, StageError, error_named
from edgekit.progress import Progress
from edgekit.report import diagnosis_page
from edgekit.sized import required, sized

_LONGEST_GROUP_S = 30.0
_FORMATS = {".tflite": "tflite", ".onnx": "onnx"}


def how_long(seconds: float, mlperf: bool, sustained_s: float | None) -> dict[str, Any]:
    """Return the stop rule: ``seconds`` for each file, MLPerf Mobile's (single stream), or ``sustained_s``.

    Source: https://github.com/mlcommons/mobile_app_open, at least 1024 queries and 60 s, the 90th percentile counts.
    """
    if sustained_s is not None:
        rounds = max(10, round(sustained_s / _LONGEST_GROUP_S))
        return {"samples": 50, "seconds": sustained_s, "limit_s": 1.5 * sustained_s, "rounds": rounds, "seed": 0}
    if mlperf:
        return {"samples": 1024, "seconds": 60.0, "limit_s": 600.0, "seed": 0}
    return {"samples": 50, "seconds": seconds, "limit_s": max(10.0, 4 * seconds), "seed": 0}


def latency(
    artifacts: list[Path], threads: int, settings: dict[str, Any], progress: Progress, shape: Sequence[str] = ()
) -> dict[str, Any]:
    """Time files of one format in turns on this host, on synthetic inputs. Returns a Latency per file, as JSON.

    ``shape``: NAME=1,3,224,224 for each input that a file leaves open.
    """
    timed = _timed("edgekit.profile.stage:latency", artifacts, threads, "local", settings, progress, shape)
    measured: dict[str, Any] = timed["measured"]
    return measured


def on_device(
    artifacts: list[Path], threads: int, device: str, settings: dict[str, Any], progress: Progress,
    shape: Sequence[str] = (), *, lock_clocks: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Check files of one format on a connected device, then time them there. Returns a DeviceRun per file, as JSON."""
    function = "edgekit.profile.stage:on_device"
    timed = _timed(function, artifacts, threads, device, settings, progress, shape, lock_clocks=lock_clocks)
    runs: dict[str, Any] = timed["runs"]
    return runs


def _timed(
    function: str, artifacts: list[Path], threads: int, device: str, settings: dict[str, Any], progress: Progress,
    shape: Sequence[str], **more: Any,
) -> dict[str, Any]:  # fmt: skip
    formats = {_format(path) for path in artifacts}
    if len(formats) > 1:
        raise RecipeError(
            "Files of different formats cannot be compared in one run.", "Profile them one format at a time."
        )
    given = {path: required(path, shape) for path in artifacts}
    with ExitStack() as files:
        timed_as = {
            path: files.enter_context(sized(path, _format(path), given[path], progress)).resolve() for path in artifacts
        }
        jobs = [
            {"name": str(path), "path": timed_as[path], "format": _format(path), "expected": None} for path in artifacts
        ]
        arguments = {"jobs": jobs, "inputs": None, "threads": threads, "device": device, "settings": settings, **more}
        timed = _run(function, arguments, "latency", progress)
    for name, message in timed["failed"].items():
        raise error_named(timed.get("errors", {}).get(name, "StageError"))(message)
    return timed


def accuracy(artifact: Path, config: Path, device: str, progress: Progress) -> dict[str, Any]:
    """Score one file on the recipe's test samples, here or on a device. Returns an Accuracy, as JSON."""
    wanted = recipe.load(config)
    arguments = {
        "artifact": artifact.resolve(),
        "format": _format(artifact),
        "dataset": _test_data(wanted),
        "task": _task(wanted),
        "baseline": None,
        "device": device,
        "resamples": wanted.profile.bootstrap,
        "seed": wanted.profile.seed,
    }
    return _run("edgekit.profile.accuracy:run", arguments, "accuracy", progress)


def diagnosis(
    artifact: Path, against: Path | None, config: Path, samples: int, seconds: float, progress: Progress,
    html: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Compare a quantized file with its float model on test samples. Returns a Diagnosis, as JSON; writes ``html``.

    The test samples show what calibration did not; nothing is decided on them.
    """
    wanted = recipe.load(config)
    form = _format(artifact)
    float_model = against or _float_sibling(artifact)
    if _format(float_model) != form:
        raise RecipeError(f"{float_model} is no .{form}: a file is diagnosed against the float file of its own format.")
    arguments = {
        "float_model": float_model.resolve(),
        "artifact": artifact.resolve(),
        "format": form,
        "dataset": _test_data(wanted),
        "task": _task(wanted),
        "samples": samples,
        "seconds": seconds,
    }
    if html is not None and not html.resolve().parent.is_dir():
        raise RecipeError(f"There is no folder {html.resolve().parent} to write {html.name} to.")
    found = _run("edgekit.diagnose.run:run", arguments, "diagnosis", progress)
    if html is not None:
        page = diagnosis_page.render(Diagnosis.model_validate(found), str(artifact), str(float_model))
        try:
            html.write_text(page, encoding="utf-8")
        except OSError as error:
            raise StageError(f"Cannot write {html}: {error.strerror or error}.", "Name another file.") from error
    return found


def _test_data(wanted: recipe.Recipe) -> dict[str, Any]:
    return {
        "kind": wanted.data.kind,
        "path": wanted.data.test,
        "labels": wanted.data.test_labels,
        "classes": list(wanted.task.classes),
        "preprocess": wanted.preprocess.model_dump(mode="json"),
    }


def _task(wanted: recipe.Recipe) -> dict[str, Any]:
    table = wanted.task.model_dump(mode="json", exclude={"adapter", "classes"})
    return table | ({"adapter": wanted.task.adapter} if wanted.task.kind == "custom" else {})


def _float_sibling(artifact: Path) -> Path:
    """Return the float file that lies beside a build's variant: its own repaired one, else pruned beside pruned."""
    kind = "pruned" if "pruned" in artifact.stem else "original"
    repaired = artifact.with_name(f"{artifact.stem}.float{artifact.suffix}")
    sibling = artifact.with_name(f"{artifact.suffix[1:]}-float32-{kind}{artifact.suffix}")
    found = next((path for path in (repaired, sibling) if path.is_file()), None)
    if found is None:
        raise RecipeError(
            f"There is no float file {sibling.name} beside {artifact.name}.", "Name the float file: --against FILE"
        )
    return found


def _run(function: str, arguments: dict[str, Any], label: str, progress: Progress) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        return worker.run(function, arguments, Path(folder), progress, label=label)


def _format(path: Path) -> str:
    if not path.is_file():
        raise RecipeError(f"There is no file {path}.")
    if path.suffix not in _FORMATS:
        raise RecipeError(f"{path} is neither .tflite nor .onnx.", "Build it first: edgekit build")
    return _FORMATS[path.suffix]
