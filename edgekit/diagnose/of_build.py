"""Explain, after a build, every int8 file that lost more than its budget or could not be scored.

It comes last, when all that ships is decided: an explanation changes no verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit import pipeline
from edgekit.diagnose.schema import Diagnosis
from edgekit.errors import EdgekitError
from edgekit.report.schema import TargetReport, Variant
from edgekit.steps import ONNX, TFLITE, BuildPlan, File, Group, Ref, Row, Step
from edgekit.store import Store

SAMPLES = 32
SECONDS = 20.0  # for each file, at most: the worst layers are tried first
_ROUNDINGS_SHARE = 0.25  # of the budget: what is lost beyond the same model in float, to be worth an explanation
LIBRARIES = {"tflite": (*TFLITE, "onnx", "onnxruntime"), "onnx": (*ONNX, "ai-edge-litert")}


@dataclass(frozen=True)
class Explained:
    """The verdicts with a diagnosis in the rows that needed one, the steps that made them, and those that failed."""

    targets: list[TargetReport]
    steps: dict[str, Step]
    errors: dict[str, EdgekitError]


def explain(
    targets: list[TargetReport], plan: BuildPlan, outcome: pipeline.Outcome, budget_points: float | None,
    store: Store, observer: pipeline.Observer, jobs: int,
) -> Explained:  # fmt: skip
    """Diagnose each such file once, on the samples it was scored on. ``targets``: in the order of ``plan.groups``."""
    needed: dict[str, Step] = {}
    for verdict, group in zip(targets, plan.groups, strict=True):
        for row, variant in _lossy(verdict, group, budget_points):
            step = _step(row, variant, plan, outcome)
            needed.setdefault(step.id, step)
    if not needed:
        return Explained(targets, {}, {})
    made = pipeline.run(BuildPlan(steps=needed), store, observer, jobs)
    return Explained([_with(verdict, group, made) for verdict, group in zip(targets, plan.groups, strict=True)],
                     needed, made.errors)  # fmt: skip


def repaired_float(emit: str, plan: BuildPlan, outcome: pipeline.Outcome) -> Path | None:
    """Return the float file that ``emit`` rounded, where a search repaired it before; else None."""
    source: Ref = plan.steps[emit].arguments["model"]
    before = plan.steps[source.step].arguments.get("model")
    if not isinstance(before, Ref) or source.step not in outcome.entries or before.step not in outcome.entries:
        return None
    if before.name != source.name:  # a conversion, not a repair
        return None
    same = outcome.entries[source.step].sha256(source.name) == outcome.entries[before.step].sha256(before.name)
    return None if same else outcome.entries[source.step].path(source.name)


def _lossy(verdict: TargetReport, group: Group, budget_points: float | None) -> list[tuple[Row, Variant]]:
    """Return the int8 rows that exist and are unscored, or lose more than the budget, and not by pruning alone."""
    drops = {
        row.pruned: _drop(variant)
        for row, variant in zip(group.rows, verdict.variants, strict=True)
        if row.precision == "float32"
    }
    found = []
    for row, variant in zip(group.rows, verdict.variants, strict=True):
        if not row.precision.startswith("int8") or not variant.file:
            continue
        by_rounding = _drop(variant) - drops.get(row.pruned, 0.0)
        if variant.status == "unscored" or (
            budget_points is not None
            and _drop(variant) > budget_points
            and by_rounding > _ROUNDINGS_SHARE * budget_points
        ):
            found.append((row, variant))
    return found


def _drop(variant: Variant) -> float:
    """Return the loss against the float, unpruned model in points; 0 where it is not known."""
    return (variant.accuracy.drop_points if variant.accuracy else None) or 0.0


def _step(row: Row, variant: Variant, plan: BuildPlan, outcome: pipeline.Outcome) -> Step:
    source: Ref = plan.steps[row.emit].arguments["model"]
    scored = plan.steps[row.score].arguments
    return Step(
        _id(row), "diagnose", f"why {row.emit.removeprefix('emit-')} loses", "edgekit.diagnose.run:run",
        {
            "float_model": File(outcome.entries[source.step].path(source.name)),
            "artifact": File(outcome.entries[row.emit].path(f"model.{row.format}")),
            "format": row.format,
            "dataset": scored["dataset"],
            "task": scored["task"],
            "samples": SAMPLES,
            "seconds": SECONDS,
        },
        LIBRARIES[variant.format], machine_bound=True,
    )  # fmt: skip


def _with(verdict: TargetReport, group: Group, made: pipeline.Outcome) -> TargetReport:
    rows = []
    for row, variant in zip(group.rows, verdict.variants, strict=True):
        entry = made.entries.get(_id(row))
        found = Diagnosis.model_validate(entry.result) if entry else None
        rows.append(variant.model_copy(update={"diagnosis": found}) if found else variant)
    return verdict.model_copy(update={"variants": rows})


def _id(row: Row) -> str:
    return row.emit.replace("emit-", "diagnose-", 1)
