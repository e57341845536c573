"""The user's own Python files: run because the recipe names them, and nothing else of a user's ever is."""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path
from types import ModuleType

from edgekit.errors import RecipeError


def run(path: Path, name: str) -> ModuleType:
    """Import the file as the module ``name``. Raises RecipeError where it cannot be imported."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"{path} is not a Python file.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # a script that ends itself is no module
        raise RecipeError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module


def names(path: Path) -> frozenset[str]:
    """Return what the file defines or imports at its top, without running it. Raises RecipeError for no Python file."""
    try:
        body = ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"no Python: {error}"
        raise RecipeError(f"Cannot read {path}: {reason}.", "Name the .py file that defines your layers.") from error
    found: set[str] = set()
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update(alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return frozenset(found)
