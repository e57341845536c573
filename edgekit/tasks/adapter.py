"""Run the user's own Python file, because the recipe names it; nothing else of a user's is ever executed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from edgekit.errors import RecipeError


def load_adapter(path: Path, functions: tuple[str, ...]) -> ModuleType:
    """Import the file. Raises RecipeError where it cannot be imported or lacks one of ``functions``."""
    spec = importlib.util.spec_from_file_location("edgekit_recipe_adapter", path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise RecipeError(f"The adapter {path} cannot be imported: {type(error).__name__}: {error}") from error
    missing = [name for name in functions if not callable(getattr(module, name, None))]
    if missing:
        raise RecipeError(f"The adapter {path} has no function {missing[0]}().")
    return module
