"""Reading edgekit.toml. Every mistake in it is reported at once."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from edgekit.errors import RecipeError
from edgekit.recipe.mistakes import explain
from edgekit.recipe.prune import PruneTable
from edgekit.recipe.table import Table
from edgekit.recipe.tables import (
    BudgetTable,
    ConvertTable,
    DataTable,
    ModelTable,
    PreprocessTable,
    ProfileTable,
    QuantizeTable,
    TargetsTable,
    TaskTable,
)
from edgekit.report.schema import CheckTable

FILE_NAME = "edgekit.toml"


class Recipe(Table):
    """What the user wrote. Paths are absolute once loaded."""

    schema_: Literal[1] = Field(1, alias="schema")
    model: ModelTable
    task: TaskTable = TaskTable()
    data: DataTable
    preprocess: PreprocessTable = PreprocessTable()
    budget: BudgetTable = BudgetTable()
    prune: PruneTable = PruneTable()
    quantize: QuantizeTable = QuantizeTable()
    convert: ConvertTable = ConvertTable()
    profile: ProfileTable = ProfileTable()
    check: CheckTable = CheckTable()
    targets: TargetsTable
    devices: dict[str, str] = Field(
        {}, description='address of the device that stands for a target, e.g. raspberry-pi-4 = "ssh://pi@board"'
    )

    @model_validator(mode="after")
    def _zeros_stay(self) -> Recipe:
        if self.prune.enabled and self.prune.sparsity and self.quantize.finetune:
            raise ValueError("[quantize] finetune would train the zeros of [prune] sparsity away; leave one out")
        return self

    @model_validator(mode="after")
    def _check_names_targets(self) -> Recipe:
        names = self.targets.names
        unknown = sorted(self.check.targets.keys() - set(names))
        if unknown and not any(name.endswith(".toml") for name in names):  # such a file names its target itself
            raise ValueError(f"[check.targets] {unknown[0]!r} is none of the recipe's targets: {', '.join(names)}")
        return self


def load(path: Path, overrides: dict[str, Any] | None = None) -> Recipe:
    """Read a recipe; ``overrides`` maps dotted keys ("model.path") to values from the command line.

    Raises RecipeError naming every unknown key, wrong type and contradiction.
    """
    path = path / FILE_NAME if path.is_dir() else path
    try:
        content = path.read_text(encoding="utf-8")
        document = tomllib.loads(content)
    except FileNotFoundError as error:
        raise RecipeError(
            f"There is no recipe at {path}.",
            "Name one with -c FILE, or write it: every key and its default is in `edgekit schema recipe`.",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"Cannot read {path}: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path} is not valid TOML: {error}") from error
    for key, value in (overrides or {}).items():
        table, _, name = key.partition(".")
        written = document.setdefault(table, {})
        if isinstance(written, dict):  # otherwise a mistake, reported below
            written[name] = value
    try:
        recipe = Recipe.model_validate(document)
    except ValidationError as error:
        lines = explain(error.errors(), Recipe)
        count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        raise RecipeError(
            f"{path} has {count}:\n" + "\n".join(f"  {line}" for line in lines),
            "Every key and its default: edgekit schema recipe",
        ) from error
    return _with_absolute_paths(recipe, path.parent.resolve())


def _with_absolute_paths(recipe: Recipe, folder: Path) -> Recipe:
    def absolute(table: Table) -> Any:
        paths = {k: folder / v for k, v in table if isinstance(v, Path)}
        return table.model_copy(update=paths)

    names = tuple(
        str(folder / name) if name.endswith(".toml") and not Path(name).is_absolute() else name
        for name in recipe.targets.names
    )
    return recipe.model_copy(
        update={
            "model": absolute(recipe.model),
            "task": absolute(recipe.task),
            "data": absolute(recipe.data),
            "prune": absolute(recipe.prune),
            "targets": TargetsTable(names=names),
        }
    )
