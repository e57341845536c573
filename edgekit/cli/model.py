"""Commands that look at a trained model before any recipe exists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.options import CustomOption, JsonOption, ShapeOption, SignatureOption, TargetOption, print_json

SourceArgument = Annotated[
    Path, typer.Argument(help="a trained model: .keras, .h5, .onnx, .tflite or a SavedModel folder")
]


def inspect(
    model: SourceArgument,
    target: TargetOption = None,
    shape: ShapeOption = None,
    signature: SignatureOption = "",
    custom: CustomOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a model takes, gives and costs, and what each target makes of it; runs nothing out of the file."""
    from edgekit import inspection
    from edgekit import target as boards
    from edgekit.console.inspection import show_inspection
    from edgekit.console.live import waiting
    from edgekit.source import shapes

    chosen = [boards.load(name) for name in target or boards.names()]
    with waiting("reading the model") as progress:
        found = inspection.look(model, chosen, progress, signature, shapes.parse(shape or []), custom)
    if as_json:
        print_json(found.as_json())
    else:
        show_inspection(found)


def init(
    model: SourceArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="the recipe to write")] = Path("edgekit.toml"),
    target: TargetOption = None,
    shape: ShapeOption = None,
    signature: SignatureOption = "",
    custom: CustomOption = None,
    force: Annotated[bool, typer.Option("--force", help="replace a recipe that is there")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a commented recipe for a model: task, decoder and outputs are guessed, and the guess is explained."""
    from edgekit import inspection
    from edgekit import target as boards
    from edgekit.console.inspection import show_draft
    from edgekit.console.live import waiting
    from edgekit.inspection import draft
    from edgekit.source import shapes

    chosen = [boards.load(name) for name in target or boards.names()]
    path = output / "edgekit.toml" if output.is_dir() else output
    with waiting("reading the model") as progress:
        found = inspection.look(model, chosen, progress, signature, shapes.parse(shape or []), custom)
    made = draft.draft(found, path, target or [], signature, custom)
    draft.write(made, path, force=force)
    if as_json:
        task = found.as_json()["task"]
        print_json({"path": str(path), "task": task, "assumed": made.assumed, "fill_in": made.fill_in})
    else:
        show_draft(found, made, path)


COMMANDS = (inspect, init)
