"""Options that several commands share, and how they print JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

ModelArgument = Annotated[Path | None, typer.Argument(help="the trained model; overrides the recipe's model.path")]
RecipeOption = Annotated[Path, typer.Option("--config", "-c", help="edgekit.toml, or the folder it is in")]
TargetOption = Annotated[
    list[str] | None,
    typer.Option("--target", "-t", help="a target's name or your own .toml; may be repeated"),
]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="build folder: results, artifacts and reports")]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", "-j", min=1, help="steps side by side; default by cores and memory")
]
TimeBudgetOption = Annotated[
    str | None,
    typer.Option("--time-budget", metavar="TIME", help="for each search or diagnosis, e.g. 20s or 3m"),
]
DeviceOption = Annotated[
    list[str] | None,
    typer.Option("--device", "-d", metavar="TARGET=ADDRESS", help="measure a target there; may be repeated"),
]
OneDeviceOption = Annotated[
    str, typer.Option("--device", "-d", help="local, ssh://user@host[:port], adb:SERIAL or browser[:wasm|webgpu]")
]
LockClocksOption = Annotated[
    bool, typer.Option("--lock-clocks", help="set boards' clocks to their highest meanwhile; then as before")
]
SignatureOption = Annotated[str, typer.Option(metavar="NAME", help="of a SavedModel that has several")]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME=1,3,224,224", help="an input's size where the model leaves it open"),
]
CustomOption = Annotated[
    Path | None, typer.Option("--custom", metavar="FILE.py", help="run this file for a Keras model's own layers")
]
JsonOption = Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")]


def overrides(
    model: Path | None,
    time_budget: str | None = None,
    shape: list[str] | None = None,
    signature: str = "",
    custom: Path | None = None,
) -> dict[str, Any]:
    """Return what the command line says otherwise than the recipe, by dotted key."""
    from edgekit.source import shapes

    found: dict[str, Any] = {}
    if model:
        found["model.path"] = str(model.resolve())
    if shape:
        found["model.shape"] = shapes.parse(shape)
    if signature:
        found["model.signature"] = signature
    if custom:
        found["model.custom"] = str(custom.resolve())
    if time_budget:
        found["quantize.search_seconds"] = seconds(time_budget)
        found["prune.minutes"] = seconds(time_budget) / 60
    return found


def seconds(text: str, option: str = "--time-budget") -> float:
    """Read 20s, 3m or 1h."""
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:], 0.0)
    try:
        value = float(text[:-1]) * unit if unit else float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no time; write 20s, 3m or 1h", param_hint=option) from error
    if not 0 < value < float("inf"):
        raise typer.BadParameter(f"{text!r} is no time; write 20s, 3m or 1h", param_hint=option)
    return value


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))
