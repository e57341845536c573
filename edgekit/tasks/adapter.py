"""Run the user's own adapter, because the recipe names it."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

from edgekit import named_code
from edgekit.errors import RecipeError


def load_adapter(path: Path, functions: tuple[str, ...]) -> ModuleType:
    """Import the file. Raises RecipeError where it cannot be imported or lacks one of ``functions``."""
    module = named_code.run(path, "edgekit_recipe_adapter")
    missing = [name for name in functions if not callable(getattr(module, name, None))]
    if missing:
        raise RecipeError(f"The adapter {path} has no function {missing[0]}().")
    return module
