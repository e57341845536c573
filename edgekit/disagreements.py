"""After a build: on which test samples the file of each verdict answers otherwise than the float model.

It comes last, as explanations do: what it shows changes no verdict, and where it fails the row says so.
"""

from __future__ import annotations

from edgekit import pipeline
from edgekit.diagnose.of_build import Explained
from edgekit.report.per_class import compared
from edgekit.report.schema import Disagreements, TargetReport, Variant
from edgekit.steps import FORMAT_LIBRARIES, BuildPlan, File, Group, Row, Step
from edgekit.store import Store

_KINDS = ("detection", "classification")  # whose answers can be shown
_PREDICTIONS = "predictions.npz"


def add(
    explained: Explained, plan: BuildPlan, outcome: pipeline.Outcome,
    store: Store, observer: pipeline.Observer, jobs: int,
) -> Explained:  # fmt: skip
    """Return the verdicts with samples in the row that ships, or else was scored last. Files are compared once."""
    needed: dict[str, Step] = {}
    wanted = [
        _row(verdict, group, plan, outcome) for verdict, group in zip(explained.targets, plan.groups, strict=True)
    ]
    for row, group in zip(wanted, plan.groups, strict=True):
        if row is not None:
            step = _step(row, group, plan, outcome)
            needed.setdefault(step.id, step)
    if not needed:
        return explained
    made = pipeline.run(BuildPlan(steps=needed), store, observer, jobs)
    targets = [_with(verdict, row, made) for verdict, row in zip(explained.targets, wanted, strict=True)]
    return Explained(targets, {**explained.steps, **needed}, explained.errors)


def _row(verdict: TargetReport, group: Group, plan: BuildPlan, outcome: pipeline.Outcome) -> Row | None:
    """Return the row to look at; None where there is nothing to hold against the float model."""
    variant = compared(verdict)
    row = next((row for row in group.rows if variant is not None and row.name == variant.name), None)
    if row is None or plan.steps[row.score].arguments["task"]["kind"] not in _KINDS:
        return None
    return row if {row.score, group.rows[0].score} <= outcome.entries.keys() else None


def _step(row: Row, group: Group, plan: BuildPlan, outcome: pipeline.Outcome) -> Step:
    scored = plan.steps[row.score].arguments
    return Step(
        _id(row), "profile", f"where {row.emit.removeprefix('emit-')} differs", "edgekit.profile.disagreement:run",
        {
            "before": File(outcome.entries[group.rows[0].score].path(_PREDICTIONS)),
            "after": File(outcome.entries[row.score].path(_PREDICTIONS)),
            "dataset": scored["dataset"],
            "task": scored["task"],
        },
        (*FORMAT_LIBRARIES[row.format], "pillow"),
    )  # fmt: skip


def _with(verdict: TargetReport, row: Row | None, made: pipeline.Outcome) -> TargetReport:
    if row is None:
        return verdict
    entry = made.entries.get(_id(row))

    def told(variant: Variant) -> Variant:
        if variant.name != row.name:
            return variant
        if entry is not None:
            return variant.model_copy(update={"disagreements": Disagreements.model_validate(entry.result)})
        missed = f"its answers could not be compared: {made.errors[_id(row)].message}"
        return variant.model_copy(update={"warnings": [*variant.warnings, missed]})

    return verdict.model_copy(update={"variants": [told(variant) for variant in verdict.variants]})


def _id(row: Row) -> str:
    return row.emit.replace("emit-", "differs-", 1)
