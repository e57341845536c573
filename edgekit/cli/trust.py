"""Commands about what can be relied on: the installed tools, and an artifact's record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli.options import JsonOption, print_json
from edgekit.errors import BudgetError, DependencyError


def env(as_json: JsonOption = False) -> None:
    """Print the machine, the versions that matter, what is missing, and the command that installs it.

    Exit codes: 0 all that is needed is there, 3 something is missing or of another version.
    """
    from dataclasses import asdict

    from edgekit import installed, provenance
    from edgekit.console.trust import show_environment

    machine, programs = provenance.environment(), installed.programs()
    needs = [*installed.needs("web"), *installed.onnx_converter_needs()]
    if as_json:
        listed = [{**asdict(need), "fits": need.fits, "cure": need.cure} for need in needs]
        print_json({**machine.model_dump(), "needs": listed, "programs": programs})
    else:
        show_environment(machine, needs, programs)
    if not all(need.fits for need in needs if not need.extra):
        raise typer.Exit(DependencyError.exit_code)


def lock(
    file: Annotated[Path, typer.Argument(help="where to write it; beside the recipe, for build --locked")] = Path(
        "edgekit.lock"
    ),
) -> None:
    """Write the exact versions of everything installed that edgekit stands on; pip reads the file too."""
    from edgekit import installed
    from edgekit.errors import StageError

    try:
        file.write_text(installed.lock(), encoding="utf-8")
    except OSError as error:
        raise StageError(f"Cannot write {file}: {error.strerror or error}.", "Name another file.") from error
    typer.echo(file)


def verify(
    artifact: Annotated[Path, typer.Argument(help="a model file under artifacts/ of a build folder")],
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="also compare with this recipe, its model and its data")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Hash an artifact and everything beside it again, and say what no longer matches.

    Exit codes: 0 everything matches, 2 the file is no artifact of a build, 7 something does not.
    """
    from dataclasses import asdict

    from edgekit.console.trust import show_claims
    from edgekit.verify import verify as examine

    claims = examine(artifact, config)
    if as_json:
        print_json([asdict(claim) for claim in claims])
    else:
        show_claims(str(artifact), claims)
    if any(claim.found == "broken" for claim in claims):
        raise typer.Exit(BudgetError.exit_code)


COMMANDS = (env, lock, verify)
