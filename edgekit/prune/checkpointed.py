"""Take a network that was pruned earlier, after checking that it is of the same model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from edgekit.artifact import digest
from edgekit.errors import RecipeError
from edgekit.progress import Progress

MODEL, RECORD, CURVE = "pruned.keras", "pruned.json", "curve"


def run(*, out: Path, progress: Progress, model: Path, checkpoint: Path) -> dict[str, Any]:
    """Copy ``checkpoint`` (what `edgekit prune` wrote) to ``out`` and return what was recorded of it.

    Raises RecipeError where it is no such folder, its network is not the recorded one, or it was made of another model.
    """
    again = "Make it again: edgekit prune, and name the folder prune/ it writes; or leave prune.checkpoint out."
    try:
        record: dict[str, Any] = json.loads((checkpoint / RECORD).read_text())
        source, sha256, facts = record["source_sha256"], record["sha256"], record["facts"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecipeError(f"prune.checkpoint {checkpoint.name} holds no readable {RECORD}: {error}", again) from error
    if digest(model) != source:
        raise RecipeError(f"prune.checkpoint {checkpoint.name} was made of another model than {model.name}.", again)
    if not (checkpoint / MODEL).is_file() or digest(checkpoint / MODEL) != sha256:
        raise RecipeError(f"{MODEL} of prune.checkpoint {checkpoint.name} is not the file it recorded.", again)
    shutil.copyfile(checkpoint / MODEL, out / MODEL)
    shutil.copytree(checkpoint / CURVE, out / CURVE)
    return {**facts, "checkpoint": checkpoint.name}
