"""What the steps of one target came to: a row for every file that was made, scored and timed, and the verdict."""

from __future__ import annotations

from typing import Any

from edgekit import device_rows, pipeline
from edgekit.build_folder import BuildFolder
from edgekit.convert.lint import lint
from edgekit.diagnose import of_build
from edgekit.precision_map import planned_ops
from edgekit.profile.verdict import Budget, judge
from edgekit.recipe import Recipe
from edgekit.report import schema as data
from edgekit.steps import BuildPlan, Group, Row
from edgekit.store import Entry


def judged(
    group: Group, recipe: Recipe, plan: BuildPlan, outcome: pipeline.Outcome, folder: BuildFolder
) -> data.TargetReport:
    """Return the verdict on one target with a row for every file, and write the files to ``folder``."""
    measured: dict[str, Any] = {"measured": {}, "failed": {}}
    if group.latency in outcome.entries:
        measured = outcome.entries[group.latency].result
    variants = [
        _variant(row, group, outcome, measured, folder).model_copy(update={"planned": planned_ops(row, plan, outcome)})
        for row in group.rows
    ]
    for variant, row in zip(variants, group.rows, strict=True):
        repaired = of_build.repaired_float(row.emit, plan, outcome)
        if repaired and variant.file:  # what `edgekit diagnose` has to hold the int8 file against
            folder.write(f"{variant.file.removesuffix(repaired.suffix)}.float{repaired.suffix}", repaired.read_bytes())
    variants = device_rows.with_device(variants, [row.emit for row in group.rows], group.device, outcome)
    base = variants[0].latency
    filled = [variants[0]]
    for variant in variants[1:]:
        if base and variant.latency:
            variant = variant.model_copy(update={
                "speedup": base.min_ms / variant.latency.min_ms,
                "speedup_p50": base.p50_ms / variant.latency.p50_ms,
            })  # fmt: skip
        filled.append(variant)
    if base:
        filled[0] = filled[0].model_copy(update={"speedup": 1.0, "speedup_p50": 1.0})
    budget, chosen = recipe.budget, group.target
    several = sum(other.target.name == chosen.name for other in plan.groups) > 1
    name = f"{chosen.name} ({group.format})" if several else chosen.name
    return judge(
        name, f"{chosen.title}, {group.primary.runtime}", chosen.family, filled,
        Budget(budget.accuracy_drop, budget.latency_ms, budget.model_mb, budget.memory_mb, budget.speedup),
        timed=group.latency is not None or any(variant.latency for variant in variants),
    )  # fmt: skip


def _variant(
    row: Row, group: Group, outcome: pipeline.Outcome, measured: dict[str, Any], folder: BuildFolder
) -> data.Variant:
    pruning = outcome.entries["prune"].result if row.pruned and "prune" in outcome.entries else None
    base: dict[str, Any] = {
        "name": row.name, "steps": list(row.done), "format": row.format, "precision": row.precision,
        "status": "baseline" if not row.done else "kept",
        "parameters": pruning["parameters_after"] if pruning else None,
        "macs": pruning["macs_after"] if pruning else None,
    }  # fmt: skip
    entry = outcome.entries.get(row.emit)
    if entry is None:
        failed = outcome.blame(row.emit)
        error = outcome.errors[failed]
        return data.Variant(
            **base, file="", sha256="", size_bytes=0,
            cause=f"not made: {failed} failed: {error.message.splitlines()[0]}",
            latency_note="there is no file to time",
        )  # fmt: skip
    made = entry.path(f"model.{row.format}")
    file = f"variants/{row.emit.removeprefix('emit-')}.{row.format}"
    folder.write(file, made.read_bytes())
    findings = lint(made, row.format, group.target.lint, refuses=group.target.refuses)
    refused = [item for item in findings if item.severity == "error"]
    score = outcome.entries.get(row.score)
    cause = ""
    if refused:
        cause = f"{group.primary.runtime} refuses it: {refused[0].rule} at {refused[0].where}: {refused[0].message}"
    elif score is None:
        cause = f"could not be scored: {outcome.errors[outcome.blame(row.score)].message.splitlines()[0]}"
    planned = outcome.entries.get(row.emit.replace("emit-", "plan-", 1))
    latency = measured["measured"].get(row.emit)
    note = ""
    if group.latency is None:
        note = f"{group.primary.runtime} runs on the board only; this host's CPU is no stand-in for it"
    elif latency is None:
        note = measured["failed"].get(row.emit, "timing failed")
    return data.Variant(
        **base, file=file, sha256=entry.result["sha256"],
        size_bytes=entry.result["size_bytes"], cause=cause, latency_note=note,
        accuracy=data.Accuracy.model_validate(score.result) if score and not refused else None,
        latency=data.Latency.model_validate(latency) if latency else None,
        gz_bytes=entry.result.get("gz_bytes"), sparse=entry.result.get("sparse"),
        search=_search_summary(planned) if planned else None, warnings=planned.result["notes"] if planned else [],
    )  # fmt: skip


def _search_summary(entry: Entry) -> data.SearchSummary | None:
    if "log" not in entry.result:
        return None
    return data.SearchSummary(
        **{name: entry.result[name] for name in data.SearchSummary.model_fields if name in entry.result}
    )
