"""The commands that make something: the whole chain, or one of its stages."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit.cli.gate import AllowDifferentOption, BaselineOption
from edgekit.cli.options import (
    CustomOption,
    DeviceOption,
    JobsOption,
    JsonOption,
    LockClocksOption,
    ModelArgument,
    OutputOption,
    RecipeOption,
    ShapeOption,
    SignatureOption,
    TargetOption,
    TimeBudgetOption,
    overrides,
    print_json,
)
from edgekit.errors import UnsupportedError


def build(
    model: ModelArgument = None,
    config: RecipeOption = Path("edgekit.toml"),
    target: TargetOption = None,
    shape: ShapeOption = None,
    signature: SignatureOption = "",
    custom: CustomOption = None,
    output: OutputOption = Path("edgekit-build"),
    jobs: JobsOption = None,
    device: DeviceOption = None,
    lock_clocks: LockClocksOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="validate everything, print the plan, do nothing")] = False,
    time_budget: TimeBudgetOption = None,
    check: Annotated[bool, typer.Option("--check", help="then check the result, as `edgekit check` does")] = False,
    baseline: BaselineOption = None,
    allow_different: AllowDifferentOption = False,
    locked: Annotated[
        bool, typer.Option("--locked", help="refuse to build with other versions than edgekit.lock beside the recipe")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run the whole chain for every target and write one report.

    Exit codes: 0 every target has a file that holds every budget, 2 recipe or input, 3 missing library,
    4 a target cannot take the model, 5 a stage failed, 6 device, 7 a budget was missed.
    """
    from edgekit import build as builder
    from edgekit import installed
    from edgekit.console.gate import show_check
    from edgekit.console.live import Live
    from edgekit.console.plan import show_notes, show_plan, show_refusals
    from edgekit.console.report import show_report
    from edgekit.gate.check import check as judge
    from edgekit.report.json import load as load_report

    if locked:
        installed.refuse_others((config if config.is_dir() else config.parent) / installed.LOCK)
    changed = overrides(model, time_budget, shape, signature, custom) | (
        {"profile.lock_clocks": True} if lock_clocks else {}
    )
    prepared = builder.prepare(config, changed, target or [], device or [])
    if dry_run:
        if as_json:
            print_json(_plan_json(prepared.plan))
        else:
            show_plan(prepared.plan)
        raise typer.Exit(UnsupportedError.exit_code if prepared.plan.refusals else 0)
    before = load_report(baseline) if baseline else None  # a wrong path shows now, not after the build
    show_notes(prepared.plan.notes)
    show_refusals(prepared.plan)
    with Live() as live:
        finished = builder.run(prepared, output, live, jobs or builder.default_jobs())
    report = finished.report
    if as_json:
        typer.echo((output / "report.json").read_text(), nl=False)
    else:
        show_report(report)
        typer.echo(f"\nReport: {output / 'report.html'}  (also .md, .json)   Artifacts: {output / 'artifacts'}")
    show_notes(note for note in report.warnings if note not in prepared.plan.notes)
    if check or before:
        result = judge(report, before, allow_different=allow_different)
        show_check(result, everything=False, on_stderr=as_json)
        raise typer.Exit(report.exit_code or result.exit_code)
    raise typer.Exit(report.exit_code)


def prune(
    model: ModelArgument = None,
    config: RecipeOption = Path("edgekit.toml"),
    shape: ShapeOption = None,
    custom: CustomOption = None,
    output: OutputOption = Path("edgekit-build"),
    jobs: JobsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cut channels and recover; write the smaller Keras or ONNX model."""
    _one_stage("prune", overrides(model, shape=shape, custom=custom), config, None, output, jobs, as_json)


def quantize(
    model: ModelArgument = None,
    config: RecipeOption = Path("edgekit.toml"),
    target: TargetOption = None,
    shape: ShapeOption = None,
    signature: SignatureOption = "",
    custom: CustomOption = None,
    output: OutputOption = Path("edgekit-build"),
    jobs: JobsOption = None,
    time_budget: TimeBudgetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Calibrate and write the plan: precision and range of every tensor, with reasons."""
    _one_stage(
        "quantize", overrides(model, time_budget, shape, signature, custom), config, target, output, jobs, as_json
    )


def convert(
    model: ModelArgument = None,
    config: RecipeOption = Path("edgekit.toml"),
    target: TargetOption = None,
    shape: ShapeOption = None,
    signature: SignatureOption = "",
    custom: CustomOption = None,
    output: OutputOption = Path("edgekit-build"),
    jobs: JobsOption = None,
    time_budget: TimeBudgetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the files every target takes, checked against the source model."""
    _one_stage(
        "convert", overrides(model, time_budget, shape, signature, custom), config, target, output, jobs, as_json
    )


def _one_stage(
    stage: str, overrides: dict[str, Any], config: Path, target: list[str] | None, output: Path, jobs: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    from edgekit import build as builder
    from edgekit import one_stage
    from edgekit.console.live import Live
    from edgekit.console.plan import show_notes, show_refusals
    from edgekit.console.pruned import show_pruned

    prepared = one_stage.up_to(builder.prepare(config, overrides, target or []), stage)
    show_refusals(prepared.plan)
    with Live() as live:
        made = one_stage.run(prepared, output, live, stage, jobs or builder.default_jobs())
    if as_json:
        print_json([str(path) for path in made.files])
    else:
        for path in made.files:
            typer.echo(path)
    if made.pruned and not as_json:
        show_pruned(made.pruned)
    show_notes(made.notes)
    if prepared.plan.refusals:
        raise typer.Exit(UnsupportedError.exit_code)


def _plan_json(plan: Any) -> dict[str, Any]:
    return {
        "steps": [{"id": step.id, "stage": step.stage, "label": step.label} for step in plan.steps.values()],
        "verdicts": [
            {
                "target": group.target.name,
                "format": group.format,
                "variants": [row.name for row in group.rows],
            }
            for group in plan.groups
        ],
        "refused": {item.target.name: item.why for item in plan.refusals},
        "notes": plan.notes,
    }


COMMANDS = (build, prune, quantize, convert)
