"""Commands over finished builds: does it pass, and how do several compare."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgekit.cli.options import JsonOption, print_json

if TYPE_CHECKING:
    from edgekit.gate.findings import CheckResult
    from edgekit.report.schema import Report

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
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="write JUnit XML there")] = None,
    sarif: Annotated[Path | None, typer.Option(metavar="FILE", help="write SARIF 2.1.0 there")] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write a comment for the pull request there")
    ] = None,
    github: Annotated[
        bool, typer.Option("--github", help="in GitHub Actions: annotations on stdout, and the job's summary")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="print violations only")] = False,
    as_json: JsonOption = False,
) -> None:
    """Let a run pass or not: budgets, nothing missing or unscored, and like its baseline to both sides.

    Exit codes: 0 passes, 2 the files are no runs or cannot be compared, 7 a violation, one line each.
    """
    from edgekit import recipe
    from edgekit.console.gate import show_check
    from edgekit.gate.check import check as judge
    from edgekit.gate.where import located
    from edgekit.report.json import load

    report = load(run)
    written = Path(report.identity.recipe)
    if config is not None:
        report = report.model_copy(update={"check": recipe.load(config).check})
        written = config / recipe.FILE_NAME if config.is_dir() else config
    result = located(judge(report, load(baseline) if baseline else None, allow_different=allow_different), written)
    for format, path in (("junit", junit), ("sarif", sarif), ("comment", markdown)):
        if path:
            _write(path, _rendered(format, result, report))
    if github:
        summary = os.environ.get("GITHUB_STEP_SUMMARY")
        if summary:
            _write(Path(summary), _rendered("comment", result, report), append=True)
        typer.echo(_rendered("annotations", result, report), nl=False)
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        show_check(result, everything=not quiet)
    raise typer.Exit(result.exit_code)


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="build folders or their report.json, two or more")
    ],
    markdown: Annotated[bool, typer.Option("--markdown", help="print Markdown")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put runs side by side, over commits or recipes: what ships on each target, against the first run.

    It judges nothing: whether a run passes is what `edgekit check` says.
    """
    from edgekit.console.gate import show_comparison
    from edgekit.errors import RecipeError
    from edgekit.gate.compare import compare as side_by_side
    from edgekit.report.comparison import render
    from edgekit.report.json import load

    names = [str(run) for run in runs]
    if len(set(names)) < 2:
        raise RecipeError("Comparing takes two different runs or more.", "edgekit compare RUN RUN ...")
    comparison = side_by_side({name: load(run) for name, run in zip(names, runs, strict=True)})
    if as_json:
        print_json(comparison.model_dump(mode="json"))
    elif markdown:
        typer.echo(render(comparison), nl=False)
    else:
        show_comparison(comparison)


def _rendered(format: str, result: CheckResult, report: Report) -> str:
    from importlib import import_module

    from edgekit.report import CHECK_FORMATS

    return str(import_module(CHECK_FORMATS[format]).render(result, report))


def _write(path: Path, text: str, *, append: bool = False) -> None:
    from edgekit.errors import StageError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if append else "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise StageError(f"Cannot write {path}: {error.strerror or error}.", "Name another file.") from error


COMMANDS = (check, compare)
