"""One build: validate everything, plan, run, judge, publish."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from edgekit import (
    __version__,
    device_rows,
    disagreements,
    inspection,
    installed,
    layer_noise,
    pipeline,
    plan,
    provenance,
    pruning_record,
    recipe,
    source,
    steps,
    target,
    tasks,
)
from edgekit.build_folder import BuildFolder
from edgekit.bundle.lay_out import lay_out
from edgekit.bundle.record import Origin
from edgekit.convert import onnx_converter
from edgekit.dataset import Dataset, Preprocess, open_dataset
from edgekit.diagnose import of_build
from edgekit.errors import EdgekitError, RecipeError, UnsupportedError
from edgekit.profile.verdict import exit_code, refused
from edgekit.report import FORMATS
from edgekit.report import schema as data
from edgekit.runtimes.facts import facts
from edgekit.sized import with_shapes
from edgekit.store import Store
from edgekit.verdicts import judged


@dataclass(frozen=True)
class Prepared:
    """A recipe that was found sound, with its plan."""

    recipe: recipe.Recipe
    targets: tuple[target.Target, ...]
    source: source.SourceInfo
    plan: steps.BuildPlan
    test_samples: int
    calibration_samples: int
    classes: tuple[str, ...]
    recipe_path: Path


@dataclass(frozen=True)
class Finished:
    """What a build came to."""

    report: data.Report
    folder: Path


def prepare(
    recipe_path: Path, overrides: dict[str, Any], target_names: list[str], devices: Sequence[str] = ()
) -> Prepared:
    """Read and check the recipe, its model, data and targets, without TensorFlow. Raises their EdgekitErrors."""
    wanted = recipe.load(recipe_path, overrides)
    targets = [target.load(name) for name in target_names or wanted.targets.names]
    if len({item.name for item in targets}) != len(targets):
        raise RecipeError("A target is named twice.")
    wanted = device_rows.assign(wanted, targets, devices)
    custom = wanted.model.custom
    info = source.inspect(wanted.model.path, wanted.model.signature, custom)
    if info.format == "pt2":
        installed.require_pytorch(info.path)
    test, calibration, _ = _check_data(wanted)
    wanted = with_shapes(wanted, info, calibration)
    plan.check_finetuning(wanted, info.format, len(calibration))
    metadata = {
        "edgekit": __version__,
        "recipe": recipe.making_fingerprint(wanted),
        "source_sha256": pipeline.known_digest(info.path),
        "task": wanted.task.kind,
        "labels": list(test.classes),
        "preprocess": wanted.preprocess.model_dump(mode="json"),
    }
    if custom:
        metadata["custom_sha256"] = pipeline.known_digest(custom)
    refused_ops = inspection.refused(info, targets, _quietly, wanted.model.shape) if info.format == "onnx" else {}
    planned = plan.plan(wanted, targets, info.format, metadata, info.quantized, refused_ops)
    if any(step.function == _FROM_ONNX for step in planned.steps.values()):
        onnx_converter.require()
    if not planned.groups:
        reasons = "\n".join(f"  {item.target.name}: {item.why}" for item in planned.refusals)
        raise UnsupportedError(f"{info.path.name} can go to none of the targets:\n{reasons}", _OTHER_TARGETS)
    return Prepared(
        wanted, tuple(targets), info, planned, len(test), len(calibration), tuple(test.classes), recipe_path
    )


def _quietly(done: float, text: str) -> None:
    """Tell nobody: before the plan there is no line to tell it on, and this takes a second or two at most."""


def _check_data(wanted: recipe.Recipe) -> tuple[Dataset, Dataset, Dataset | None]:
    table, preprocess = wanted.data, Preprocess.from_json(wanted.preprocess.model_dump())
    labelled = wanted.task.kind != "generic"

    def opened(path: Path, labels: Path | None, labelled: bool) -> Dataset:
        found = open_dataset(table.kind, path, labels, preprocess, labelled=labelled, classes=wanted.task.classes)
        if labelled and found.truth is None:
            raise RecipeError(f"{path} holds no labels (an array named y), which {wanted.task.kind} needs.")
        if labelled and wanted.task.kind != "custom":  # whose adapter runs in a child process only
            tasks.load(wanted.task.kind).check_truth(found.truth, found.classes)
        found.check()
        return found

    test = opened(table.test, table.test_labels, labelled)
    calibration = opened(table.calibration, None, False)
    train = opened(table.train, table.train_labels, labelled) if table.train else None
    unlabelled = opened(table.unlabelled, None, False) if table.unlabelled else None
    scored = test.fingerprints()
    for name, other in (("calibration", calibration), ("train", train), ("unlabelled", unlabelled)):
        shared = len(scored & other.fingerprints()) if other else 0
        if shared:
            raise RecipeError(
                f"{shared} sample(s) of data.{name} are also in data.test; a score on them would be worth nothing.",
                f"Remove them from one of the two: {table.test} and {other.origin if other else ''}.",
            )
    return test, calibration, train


def run(prepared: Prepared, folder: Path, observer: pipeline.Observer, jobs: int) -> Finished:
    """Run the whole plan, judge every target, and write artifacts and the three reports to ``folder``."""
    started = time.monotonic()
    store = Store(folder / "store")
    outcome = pipeline.run(prepared.plan, store, observer, jobs)
    with BuildFolder(folder) as place:
        targets = [judged(group, prepared.recipe, prepared.plan, outcome, place) for group in prepared.plan.groups]
        limit = prepared.recipe.budget.accuracy_drop
        explained = of_build.explain(targets, prepared.plan, outcome, limit, store, observer, jobs)
        explained = disagreements.add(explained, prepared.plan, outcome, store, observer, jobs)
        explained = layer_noise.add(explained, prepared.plan, outcome, store, observer, jobs)
        report = _report(prepared, outcome, explained, started)
        origin = Origin(prepared.recipe, report, installed.closure())
        report = lay_out(origin, prepared.plan.groups, outcome, place)
        report = report.model_copy(update={"targets": [*report.targets, *_refused(prepared.plan)]})
        place.write(installed.LOCK, installed.lock().encode())
        for format, module in FORMATS.items():
            place.write(f"report.{format}", import_module(module).render(report).encode())
        place.sweep()
    return Finished(report, folder)


def _refused(planned: steps.BuildPlan) -> list[data.TargetReport]:
    boards = [(item.target, item.why) for item in planned.refusals]
    return [refused(board.name, f"{board.title}, {board.primary.runtime}", board.family, why) for board, why in boards]


def _report(
    prepared: Prepared, outcome: pipeline.Outcome, explained: of_build.Explained, started: float
) -> data.Report:
    targets = explained.targets
    failures = [
        _failure(step, error, prepared, outcome, {**prepared.plan.steps, **explained.steps}[step].label)
        for step, error in {**outcome.errors, **explained.errors}.items()
    ]
    return data.Report(
        name=prepared.recipe.model.path.parent.name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        duration_s=round(time.monotonic() - started, 1),
        exit_code=failures[0].exit_code if failures else exit_code(targets, len(prepared.plan.refusals)),
        source=_source(prepared, outcome),
        targets=targets,
        prune=pruning_record.summary(outcome),
        failures=failures,
        environment=provenance.environment(),
        recipe_sha256=recipe.fingerprint(prepared.recipe),
        identity=provenance.identity(
            prepared.recipe, prepared.recipe_path, prepared.targets, learns="prune" in prepared.plan.steps
        ),
        check=prepared.recipe.check,
        test_samples=prepared.test_samples,
        calibration_samples=prepared.calibration_samples,
        warnings=[*prepared.plan.notes, *learned(prepared.plan, outcome)],
    )


def learned(planned: steps.BuildPlan, outcome: pipeline.Outcome) -> list[str]:
    """Return what the user should know that no step could tell before it ran."""
    return [*pruning_record.notes(outcome), *_likeness(outcome), *_layouts(planned, outcome)]


def _layouts(planned: steps.BuildPlan, outcome: pipeline.Outcome) -> list[str]:
    made = [entry for name, entry in outcome.entries.items() if planned.steps[name].function == _FROM_ONNX]
    changed = {name: pair for entry in made for name, pair in entry.result["layouts"].items()}
    return [
        f"The .tflite files take {name!r} as {file}, the .onnx model takes it as {model}: model.json says so too."
        for name, (model, file) in changed.items()
    ]


def _likeness(outcome: pipeline.Outcome) -> list[str]:
    entry = outcome.entries.get(plan.LIKENESS)
    return list(entry.result["notes"]) if entry else []


def default_jobs() -> int:
    """Return how many steps to run side by side: by cores, and 4 GB for each."""
    machine = facts()
    return int(max(1, min(4, machine["cores"], machine["memory_bytes"] // _BYTES_PER_JOB)))


_BYTES_PER_JOB = 4 << 30
_FROM_ONNX = "edgekit.convert.onnx_tflite:run"
_OTHER_TARGETS = "Choose targets that take it, with -t or in [targets]; edgekit inspect MODEL says which do."


def _failure(step: str, error: EdgekitError, prepared: Prepared, outcome: pipeline.Outcome, label: str) -> data.Failure:
    hit = [
        group.target.name
        for group in prepared.plan.groups
        if any(step in (outcome.blame(row.emit), outcome.blame(row.score)) for row in group.rows)
        or step in (group.latency, group.device)
    ]
    return data.Failure(
        step=label, targets=sorted(set(hit)), error=type(error).__name__,
        message=error.message, hint=error.hint, exit_code=error.exit_code,
    )  # fmt: skip


def _source(prepared: Prepared, outcome: pipeline.Outcome) -> data.Source:
    info, custom = prepared.source, prepared.recipe.model.custom
    exported = outcome.entries.get("float-original")
    found = exported.result if exported else {"warnings": [], "parameters": None}
    return data.Source(
        path=info.path.name, format=info.format, sha256=pipeline.known_digest(info.path), size_bytes=info.size_bytes,
        parameters=found["parameters"] or info.parameters, task=prepared.recipe.task.kind,
        custom_sha256=pipeline.known_digest(custom) if custom else "",
        warnings=list(dict.fromkeys([*info.warnings, *found["warnings"]])),
    )  # fmt: skip
