"""The record of one artifact: from what, by what and how it was made, and what was measured on it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import recipe
from edgekit.report.schema import Report, Variant

SUFFIX = ".record.json"
_SOURCE = {"path", "format", "sha256", "size_bytes", "parameters", "custom_sha256"}
_BULKY_LATENCY = {"samples_ns", "ops", "ops_note"}  # in report.json
_BULKY_ACCURACY = {"per_class"}


@dataclass(frozen=True)
class Origin:
    """What one build knows of where its files come from."""

    recipe: recipe.Recipe
    report: Report
    libraries: dict[str, str]


def record(origin: Origin, variant: Variant, file: str, beside: Mapping[str, str]) -> dict[str, Any]:
    """Return everything that is known of one artifact; ``beside``: sha256 of each file that lies with it."""
    report = origin.report
    latency, accuracy = variant.latency, variant.accuracy
    return {
        "schema_version": 1,
        "artifact": {
            "file": file, "sha256": variant.sha256, "size_bytes": variant.size_bytes, "format": variant.format,
            "precision": variant.precision, "steps": variant.steps,
        },
        "source": report.source.model_dump(include=_SOURCE),
        "recipe": recipe_json(origin.recipe),
        "recipe_sha256": report.recipe_sha256,
        "seeds": {"prune": origin.recipe.prune.seed, "profile": origin.recipe.profile.seed},
        "data": report.identity.model_dump(exclude={"recipe", "targets"})
        | {"test_samples": report.test_samples, "calibration_samples": report.calibration_samples},
        "environment": report.environment.model_dump(exclude={"libraries"}) | {"libraries": origin.libraries},
        "command": command(),
        "created": report.created,
        "measured": {
            "accuracy": accuracy.model_dump(exclude=_BULKY_ACCURACY) if accuracy else None,
            "latency": latency.model_dump(exclude=_BULKY_LATENCY) if latency else None,
            "latency_note": variant.latency_note,
            "speedup": variant.speedup,
        },
        "files": dict(sorted(beside.items())),
    }  # fmt: skip


def recipe_json(wanted: recipe.Recipe) -> dict[str, Any]:
    """Return the recipe with every default filled in; of paths only the last name, for a folder may say who one is."""

    def named(value: Any) -> Any:
        if isinstance(value, Path):
            return value.name
        if isinstance(value, dict):
            return {key: named(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [named(item) for item in value]
        return value

    found: dict[str, Any] = json.loads(json.dumps(named(wanted.model_dump(by_alias=True))))
    found["targets"]["names"] = [Path(name).name for name in found["targets"]["names"]]
    return found


def command() -> str:
    """Return the command that is running; of paths only the last name."""
    words = (Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:])
    return " ".join(["edgekit", *words])
