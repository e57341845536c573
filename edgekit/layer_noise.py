"""After a build: what int8 costs each layer of the file that a verdict is about, where no diagnosis says it already.

It comes last, and what it shows changes no verdict: where it fails, the row says so and the build goes on.
"""

from __future__ import annotations

from collections.abc import Sequence

from edgekit import pipeline
from edgekit.diagnose.of_build import LIBRARIES, Explained
from edgekit.diagnose.schema import Layer
from edgekit.report.per_class import compared
from edgekit.report.schema import TargetReport, Variant
from edgekit.steps import BuildPlan, File, Group, Ref, Row, Step
from edgekit.store import Store

SAMPLES = 8


def add(
    explained: Explained, plan: BuildPlan, outcome: pipeline.Outcome,
    store: Store, observer: pipeline.Observer, jobs: int,
) -> Explained:  # fmt: skip
    """Return the verdicts with ``layers`` in the int8 row that ships, or else was scored last."""
    rows = [_row(verdict, group, outcome) for verdict, group in zip(explained.targets, plan.groups, strict=True)]
    needed = {step.id: step for row in rows if row is not None for step in [_step(row, plan, outcome)]}
    if not needed:
        return explained
    made = pipeline.run(BuildPlan(steps=needed), store, observer, jobs)
    targets = [_with(verdict, row, made) for verdict, row in zip(explained.targets, rows, strict=True)]
    return Explained(targets, {**explained.steps, **needed}, explained.errors)


def _row(verdict: TargetReport, group: Group, outcome: pipeline.Outcome) -> Row | None:
    variant = compared(verdict)
    if variant is None or variant.diagnosis is not None or not variant.file:
        return None
    row = next((row for row in group.rows if row.name == variant.name), None)
    return row if row is not None and row.precision.startswith("int8") and row.emit in outcome.entries else None


def _step(row: Row, plan: BuildPlan, outcome: pipeline.Outcome) -> Step:
    source: Ref = plan.steps[row.emit].arguments["model"]
    return Step(
        _id(row), "diagnose", f"layers of {row.emit.removeprefix('emit-')}", "edgekit.diagnose.layer_noise:run",
        {
            "float_model": File(outcome.entries[source.step].path(source.name)),
            "artifact": File(outcome.entries[row.emit].path(f"model.{row.format}")),
            "format": row.format,
            "dataset": plan.steps[row.score].arguments["dataset"],
            "samples": SAMPLES,
        },
        LIBRARIES[row.format],
    )  # fmt: skip


def _with(verdict: TargetReport, row: Row | None, made: pipeline.Outcome) -> TargetReport:
    if row is None:
        return verdict
    update: dict[str, Sequence[object]] = {}
    if (entry := made.entries.get(_id(row))) is not None:
        update = {"layers": [Layer.model_validate(layer) for layer in entry.result["layers"]]}

    def told(variant: Variant) -> Variant:
        if variant.name != row.name:
            return variant
        missed = f"its layers could not be compared: {made.errors[_id(row)].message}" if not update else ""
        return variant.model_copy(update=update or {"warnings": [*variant.warnings, missed]})

    return verdict.model_copy(update={"variants": [told(variant) for variant in verdict.variants]})


def _id(row: Row) -> str:
    return row.emit.replace("emit-", "layers-", 1)
