"""Commands that only show something: the targets, a finished report, schemas, versions."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.options import JsonOption, RecipeOption, print_json


def targets(
    name: Annotated[str | None, typer.Argument(help="show one target's facts and sources")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the boards, phones and browsers edgekit knows."""
    from edgekit import target
    from edgekit.console.targets import show_targets

    found = [target.load(name)] if name else [target.load(item) for item in target.names()]
    if as_json:
        print_json([item.model_dump(mode="json", by_alias=True) for item in found])
    else:
        show_targets(found, detailed=name is not None)


def devices(
    address: Annotated[list[str] | None, typer.Argument(help="look at these too, e.g. ssh://pi@board")] = None,
    config: RecipeOption = Path("edgekit.toml"),
    as_json: JsonOption = False,
) -> None:
    """List what can be measured on now: this host, phones on adb, the browser, the recipe's [devices]."""
    from edgekit import recipe
    from edgekit.console.device import show_attached
    from edgekit.console.live import waiting
    from edgekit.devices.attached import attached

    written = config / recipe.FILE_NAME if config.is_dir() else config
    named = list(recipe.load(config).devices.values()) if written.is_file() else []
    with waiting("looking") as progress:
        progress(0.0, "looking for devices")
        found = attached([*(address or []), *named])
    if as_json:
        print_json([item.as_json() for item in found])
    else:
        show_attached(found)


def report(
    run: Annotated[
        Path | None, typer.Argument(help="a build folder or its report.json; with --serve a folder of builds")
    ] = None,
    format: Annotated[
        str, typer.Option("--format", "-f", help="md, html, json; of its check: junit, sarif, comment, annotations")
    ] = "md",
    serve: Annotated[
        bool, typer.Option("--serve", help="list and compare the builds below a folder, by default this one")
    ] = False,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="where to serve; 0 is any free one")] = None,
) -> None:
    """Print the report of a finished build in another form, or serve the builds of a folder as pages."""
    if serve:
        _serve(run or Path(), port)
        return
    if port is not None:
        raise typer.BadParameter("goes with --serve only", param_hint="--port")
    if run is None:
        raise typer.BadParameter("name a build folder, or its report.json", param_hint="RUN")
    from importlib import import_module

    from edgekit.errors import RecipeError
    from edgekit.gate.check import check
    from edgekit.gate.where import located
    from edgekit.report import CHECK_FORMATS, FORMATS
    from edgekit.report.json import load

    if format not in FORMATS | CHECK_FORMATS:
        raise RecipeError(f"There is no report format {format!r}.", f"Known: {', '.join(FORMATS | CHECK_FORMATS)}")
    loaded = load(run)
    if format in FORMATS:
        text = import_module(FORMATS[format]).render(loaded)
    else:
        result = located(check(loaded), Path(loaded.identity.recipe))
        text = import_module(CHECK_FORMATS[format]).render(result, loaded)
    typer.echo(text, nl=False)


def _serve(folder: Path, port: int | None) -> None:
    """Serve until Ctrl-C, which is how it is meant to end."""
    from edgekit.console.live import waiting
    from edgekit.runs.find import Runs
    from edgekit.runs.server import RunsServer

    runs = Runs(folder)
    with waiting("reading") as progress:
        progress(0.0, f"looking for builds in {folder}")
        count = len(runs.all())
    with RunsServer(runs, port) as server:
        typer.echo(f"{count} build{'' if count == 1 else 's'} in {folder}. Open this page; Ctrl-C ends it:", err=True)
        typer.echo(server.url)
        with suppress(KeyboardInterrupt):
            server.serve_forever(poll_interval=0.1)


def schema(
    what: Annotated[str, typer.Argument(help="report, recipe or target")] = "report",
) -> None:
    """Print the JSON Schema of report.json, edgekit.toml or a target file."""
    from edgekit.errors import RecipeError
    from edgekit.recipe import Recipe
    from edgekit.report.json import json_schema
    from edgekit.target import Target

    schemas = {"report": json_schema, "recipe": Recipe.model_json_schema, "target": Target.model_json_schema}
    if what not in schemas:
        raise RecipeError(f"There is no schema of {what!r}.", f"Known: {', '.join(schemas)}")
    print_json(schemas[what]())


COMMANDS = (targets, devices, report, schema)
