"""Commands over finished builds: does it pass, and how do several compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgekit.cli_options import JsonOption, print_json

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="a build folder or its report.json")]
BaselineOption = Annotated[
    Path | None, typer.Option("--baseline", "-b", metavar="RUN", help="the run it must be like, e.g. the main branch's")
]
AllowDifferentOption = Annotated[
    bool, typer.Option("--allow-different", help="compare although data, device or runtime differ")
]


def check(
    run: RunArgument,
    baseline: BaselineOption = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="take [check] from this recipe, not from the run's own")
    ] = None,
    allow_different: AllowDifferentOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print violations only")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let a run pass or not: budgets, nothing missing or unscored, and like its baseline to both sides.

    Exit codes: 0 passes, 2 the files are no runs or cannot be compared, 7 a violation, one line each.
    """
    from edgekit import console_gate, recipe
    from edgekit.gate.check import check as judge
    from edgekit.report.json import load

    report = load(run)
    if config is not None:
        report = report.model_copy(update={"check": recipe.load(config).check})
    result = judge(report, load(baseline) if baseline else None, allow_different=allow_different)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        console_gate.show_check(result, everything=not quiet)
    raise typer.Exit(result.exit_code)


COMMANDS = (check,)
