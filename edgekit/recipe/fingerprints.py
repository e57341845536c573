"""What a recipe says as a sha256: all of it, or what decides the inside of an artifact."""

from __future__ import annotations

import hashlib
from typing import Any

from edgekit.recipe.file import Recipe


def fingerprint(recipe: Recipe) -> str:
    """Return the sha256 of what the recipe says (not of where it lies)."""
    return _sha256(recipe.model_dump_json(exclude={"data": True, "check": True, **_PLACES}))


def making_fingerprint(recipe: Recipe) -> str:
    """Return the sha256 of what decides the inside of an artifact: of the budgets those that searches aim at."""
    tables: dict[str, Any] = dict.fromkeys(("task", "preprocess", "prune", "quantize", "convert"), True)
    tables["model"] = {"signature", "shape"}
    searches = recipe.prune.enabled and recipe.prune.keep_macs == "auto"
    aims = {"accuracy_drop", "speedup", "latency_ms"} if searches else {"accuracy_drop"}
    return _sha256(recipe.model_dump_json(include=tables | {"budget": aims}, exclude={**_PLACES}))


_PLACES: dict[str, Any] = {  # known by their content
    "model": {"path", "custom"},
    "prune": {"teacher", "student", "checkpoint"},
}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
