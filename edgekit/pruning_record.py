"""What pruning came to: for the report, and as a folder that a later build may take instead of training again."""

from __future__ import annotations

import json
from pathlib import Path

from edgekit.artifact import digest
from edgekit.build_folder import BuildFolder
from edgekit.pipeline import Outcome
from edgekit.plan.costs import COSTS
from edgekit.plan.pruning import CURVE, PRUNE, PRUNED
from edgekit.prune.checkpointed import CURVE as NETWORKS
from edgekit.prune.checkpointed import RECORD
from edgekit.report import schema as data
from edgekit.steps import BOUND_FILES, SHAPE


def summary(outcome: Outcome) -> data.PruneSummary | None:
    """Return what the report says of pruning; None where nothing was pruned."""
    if PRUNE not in outcome.entries:
        return None
    facts = dict(outcome.entries[PRUNE].result)
    if CURVE in outcome.entries:
        facts["curve"] = outcome.entries[CURVE].result["points"]
    known = data.PruneSummary.model_fields
    return data.PruneSummary.model_validate({name: value for name, value in facts.items() if name in known})


def notes(outcome: Outcome) -> list[str]:
    """Return what the user should know of how channels were priced, and of what time or memory left no room for."""
    timed = outcome.entries[COSTS].result["notes"] if COSTS in outcome.entries else []
    said = outcome.entries[PRUNE].result.get("notes", []) if PRUNE in outcome.entries else []
    return [*timed, *said]


def write_checkpoint(outcome: Outcome, model: Path, place: BuildFolder) -> list[Path]:
    """Write ``prune/``: the pruned network, every network of its curve, and a record of what they were made of."""
    entry = outcome.entries[PRUNE]
    if SHAPE in outcome.entries:
        bound = outcome.entries[SHAPE]  # the same with its sizes, which is what was pruned
        model = next(path for path in map(bound.path, ("model.keras", *BOUND_FILES.values())) if path.is_file())
    pruned = next(path for path in map(entry.path, dict.fromkeys(PRUNED.values())) if path.is_file())
    record = {"source_sha256": digest(model), "sha256": digest(pruned), "facts": entry.result}
    written = [
        place.write(f"prune/{pruned.name}", pruned.read_bytes()),
        place.write(f"prune/{RECORD}", json.dumps(record, indent=1, sort_keys=True).encode()),
    ]
    for network in sorted(entry.path(NETWORKS).glob("*.keras")) if entry.path(NETWORKS).is_dir() else ():
        written.append(place.write(f"prune/{NETWORKS}/{network.name}", network.read_bytes()))
    return written
