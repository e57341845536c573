"""The commands that measure a file: how fast it is, how good, and why not better."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.options import (
    JsonOption,
    LockClocksOption,
    OneDeviceOption,
    RecipeOption,
    ShapeOption,
    TimeBudgetOption,
    print_json,
    seconds,
)


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
    from edgekit import single
    from edgekit.console.device import show_over_time, show_runs
    from edgekit.console.live import waiting
    from edgekit.console.measured import show_accuracy, show_latency
    from edgekit.console.page import show_page

    if serve or listen:
        from edgekit.devices import browser_address

        page = browser_address.by_hand("browser" if device == "local" else device, listen or browser_address.LOOPBACK)
        device = page.device
        show_page(page)
    settings = single.how_long(at_least, mlperf, seconds(sustained, "--sustained") if sustained else None)
    with waiting("timing") as progress:
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
        show_latency(measured)
    else:
        show_runs(measured)
    if sustained:
        show_over_time(measured)
    for path, scored in scores.items():
        show_accuracy(path, scored)


def evaluate(
    artifact: Annotated[Path, typer.Argument(help="a .tflite or .onnx file")],
    config: RecipeOption = Path("edgekit.toml"),
    device: OneDeviceOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Score a file in its own runtime on the recipe's test samples, here or on a connected device."""
    from edgekit import single
    from edgekit.console.live import waiting
    from edgekit.console.measured import show_accuracy

    with waiting("scoring") as progress:
        scored = single.accuracy(artifact, config, device, progress)
    if as_json:
        print_json(scored)
    else:
        show_accuracy(artifact, scored)


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
    from edgekit import single
    from edgekit.console.diagnosis import show_diagnosis
    from edgekit.console.live import waiting
    from edgekit.diagnose.schema import Diagnosis

    limit_s = seconds(time_budget) if time_budget else 60.0
    with waiting("diagnosing") as progress:
        found = single.diagnosis(artifact, against, config, samples, limit_s, progress, html)
    if as_json:
        print_json(found)
    else:
        show_diagnosis(Diagnosis.model_validate(found))
        if html:
            typer.echo(f"\nPage: {html}")


COMMANDS = (profile, evaluate, diagnose)
