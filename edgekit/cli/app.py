"""All commands, and the one place that catches."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edgekit import __version__
from edgekit.cli import chain, gate, measuring, model, show, trust
from edgekit.errors import EXIT_BUG, EXIT_INTERRUPTED, EdgekitError

app = typer.Typer(
    name="edgekit",
    help="Prune, quantize, convert and profile a trained network for small machines; trust every number.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (command for part in (chain, measuring, model, show, gate, trust) for command in part.COMMANDS):
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


_INTERRUPTED = "interrupted; what was finished is kept, the same command goes on from there"


def main() -> None:
    """Run the command line; every failure ends here, in its exit code."""
    try:
        app()
    except EdgekitError as error:
        from edgekit.console.error import show_error

        show_error(error)
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
