"""The command line: parse, call, hand to the console. The one place that catches."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edgekit import __version__, cli_gate, cli_model, cli_show, cli_trust
from edgekit.cli_gate import AllowDifferentOption, BaselineOption
from edgekit.cli_options import (
    CustomOption,
    DeviceOption,
    JobsOption,
    JsonOption,
    LockClocksOption,
    ModelArgument,
    OneDeviceOption,
    OutputOption,
    RecipeOption,
    ShapeOption,
    SignatureOption,
    TargetOption,
    TimeBudgetOption,
    overrides,
    print_json,
    seconds,
)  # fmt: skip
from edgekit.errors import EXIT_BUG, EXIT_INTERRUPTED, EdgekitError, UnsupportedError

app = typer.Typer(
    name="edgekit",
    help="Prune, quantize, convert and profile a trained network for small machines; trust every number.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
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
    from edgekit import console, console_gate, installed
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
            console.show_plan(prepared.plan)
        raise typer.Exit(UnsupportedError.exit_code if prepared.plan.refusals else 0)
    before = load_report(baseline) if baseline else None  # a wrong path shows now, not after the build
    console.show_notes(prepared.plan.notes)
    console.show_refusals(prepared.plan)
    with console.Live() as live:
        finished = builder.run(prepared, output, live, jobs or builder.default_jobs())
    report = finished.report
    if as_json:
        typer.echo((output / "report.json").read_text(), nl=False)
    else:
        console.show_report(report)
        typer.echo(f"\nReport: {output / 'report.html'}  (also .md, .json)   Artifacts: {output / 'artifacts'}")
    console.show_notes(note for note in report.warnings if note not in prepared.plan.notes)
    if check or before:
        result = judge(report, before, allow_different=allow_different)
        console_gate.show_check(result, everything=False, on_stderr=as_json)
        raise typer.Exit(report.exit_code or result.exit_code)
    raise typer.Exit(report.exit_code)


@app.command()
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


@app.command()
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


@app.command()
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


@app.command()
def profile(
    artifact: Annotated[list[Path], typer.Argument(help="one or more .tflite or .onnx files, timed in turns")],
    shape: ShapeOption = None,
    threads: Annotated[int, typer.Option(min=1, help="threads of the runtime")] = 1,
    device: OneDeviceOption = "local",
    at_least: Annotated[float, typer.Option("--seconds", min=0.1, help="at least this long for each file")] = 2.0,
    mlperf: Annotated[bool, typer.Option("--mlperf", help="1024 runs and 60 s at least; its figure is p90")] = False,
    sustained: Annotated[
        str | None, typer.Option(metavar="TIME", help="run this long, e.g. 10m, and show the latency over time")
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="wait for a browser that you open, e.g. a phone's")] = False,
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="serve there; 0.0.0.0 is for a phone in the network"),
    ] = None,
    lock_clocks: LockClocksOption = False,
    accuracy: Annotated[bool, typer.Option("--accuracy", help="score on the recipe's test samples there, too")] = False,
    config: RecipeOption = Path("edgekit.toml"),
    as_json: JsonOption = False,
) -> None:
    """Time files in their runtime, interleaved; min, p50, p90, p99, memory, per-op times.

    On a connected device their outputs are first held against this host's: a fast wrong answer fails.
    """
    from edgekit import console, console_device, single

    if serve or listen:
        from edgekit import console_page
        from edgekit.devices import browser_address

        page = browser_address.by_hand("browser" if device == "local" else device, listen or browser_address.LOOPBACK)
        device = page.device
        console_page.show_page(page)
    settings = single.how_long(at_least, mlperf, seconds(sustained, "--sustained") if sustained else None)
    with console.waiting("timing") as progress:
        if device == "local" and not lock_clocks:
            measured = single.latency(artifact, threads, settings, progress, shape or [])
        else:
            measured = single.on_device(
                artifact, threads, device, settings, progress, shape or [], lock_clocks=lock_clocks
            )  # fmt: skip
        scores = {path: single.accuracy(path, config, device, progress) for path in artifact} if accuracy else {}
    if as_json:
        by_name = {str(path): {"accuracy": scored} for path, scored in scores.items()}
        print_json({name: figures | by_name.get(name, {}) for name, figures in measured.items()})
        return
    if device == "local":
        console.show_latency(measured)
    else:
        console_device.show_runs(measured)
    if sustained:
        console_device.show_over_time(measured)
    for path, scored in scores.items():
        console.show_accuracy(path, scored)


@app.command()
def evaluate(
    artifact: Annotated[Path, typer.Argument(help="a .tflite or .onnx file")],
    config: RecipeOption = Path("edgekit.toml"),
    device: OneDeviceOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Score a file in its own runtime on the recipe's test samples, here or on a connected device."""
    from edgekit import console, single

    with console.waiting("scoring") as progress:
        scored = single.accuracy(artifact, config, device, progress)
    if as_json:
        print_json(scored)
    else:
        console.show_accuracy(artifact, scored)


@app.command()
def diagnose(
    artifact: Annotated[Path, typer.Argument(help="a quantized .tflite or .onnx, from any tool")],
    against: Annotated[
        Path | None, typer.Option("--against", "-a", help="its float file; found beside a build's variant")
    ] = None,
    config: RecipeOption = Path("edgekit.toml"),
    samples: Annotated[int, typer.Option(min=1, help="test samples to compare on")] = 32,
    time_budget: TimeBudgetOption = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="write it as a page, too")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say why a quantized file answers otherwise than its float model: named causes, with proof and cure."""
    from edgekit import console, console_diagnosis, single
    from edgekit.diagnose.schema import Diagnosis

    limit_s = seconds(time_budget) if time_budget else 60.0
    with console.waiting("diagnosing") as progress:
        found = single.diagnosis(artifact, against, config, samples, limit_s, progress, html)
    if as_json:
        print_json(found)
    else:
        console_diagnosis.show_diagnosis(Diagnosis.model_validate(found))
        if html:
            typer.echo(f"\nPage: {html}")


for _command in (*cli_model.COMMANDS, *cli_show.COMMANDS, *cli_gate.COMMANDS, *cli_trust.COMMANDS):
    app.command()(_command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgekit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    pass


def _one_stage(
    stage: str, overrides: dict[str, Any], config: Path, target: list[str] | None, output: Path, jobs: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    from edgekit import build as builder
    from edgekit import console, one_stage

    prepared = one_stage.up_to(builder.prepare(config, overrides, target or []), stage)
    console.show_refusals(prepared.plan)
    with console.Live() as live:
        made = one_stage.run(prepared, output, live, stage, jobs or builder.default_jobs())
    if as_json:
        print_json([str(path) for path in made.files])
    else:
        for path in made.files:
            typer.echo(path)
    console.show_notes(made.notes)
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


_INTERRUPTED = "interrupted; what was finished is kept, the same command goes on from there"


def main() -> None:
    """Run the command line; every failure ends here, in its exit code."""
    try:
        app()
    except EdgekitError as error:
        from edgekit import console

        console.show_error(error)
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == EXIT_INTERRUPTED:  # typer turns Ctrl-C into this, without a word
            typer.echo(_INTERRUPTED, err=True)
        raise
    except KeyboardInterrupt:
        typer.echo(_INTERRUPTED, err=True)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        sys.exit(1)
    except Exception as error:  # noqa: BLE001 - the one catcher: anything else is a bug, with a log to paste
        from edgekit import bug

        typer.echo(
            f"This is a bug in edgekit: {type(error).__name__}: {error}\nA log to paste: {bug.write(error)}",
            err=True,
        )
        sys.exit(EXIT_BUG)
