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
JsonOption = Annotated[bool, typer.Option("--json", help="machine-readable result on stdout")]


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))
