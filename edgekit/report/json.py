"""``report.json``: the whole report, every raw sample, in the order of the schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgekit.errors import RecipeError, StageError
from edgekit.report.schema import SCHEMA_VERSION, Report


def render(report: Report) -> str:
    """Return the report as JSON text; two equal reports give equal bytes.

    Raises StageError if a number is NaN or infinite: JSON has no such number, and a report must not have one.
    """
    try:
        text = json.dumps(report.model_dump(mode="json"), indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise StageError(
            "the report holds a number that is NaN or infinite",
            "This is a bug in the stage that measured it; a missing figure must be null.",
        ) from error
    return text + "\n"


def load(path: Path) -> Report:
    """Read a report, or the one in a build folder; RecipeError if it is none or of another schema version."""
    path = path / "report.json" if path.is_dir() else path
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror or error}", "Name a build folder's report.json.") from error
    except ValueError as error:
        raise RecipeError(f"{path}: not JSON: {error}", "Name a build folder's report.json.") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        found = "no schema_version" if version is None else f"schema_version {version!r}"
        raise RecipeError(
            f"{path}: {found}; this edgekit reads {SCHEMA_VERSION}",
            "Read it with the edgekit that wrote it, or build again.",
        )
    try:
        return Report.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RecipeError(
            f"{path}: {place}: {first['msg']} ({error.error_count()} problems in all)",
            "The file was changed or cut short; build again.",
        ) from error


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``report.json``, for editors and other tools."""
    schema = Report.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
