"""Write `.keras` archives whose bytes depend on the model alone."""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

FIXED_DATE = (2000, 1, 1, 0, 0, 0)
FIXED_DATE_SAVED = "2000-01-01@00:00:00"


def save_reproducibly(model: Any, path: Path) -> None:
    """Save a Keras model without optimizer state, then pin what differs between two equal trainings.

    Keras stamps the saving time into `metadata.json` and each zip entry, and numbers shared objects in
    `config.json` by their address in memory.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path, include_optimizer=False)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(entries["metadata.json"])
    metadata["date_saved"] = FIXED_DATE_SAVED
    entries["metadata.json"] = json.dumps(metadata, sort_keys=True).encode()
    entries["config.json"] = _number_shared_objects(entries["config.json"].decode()).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name, FIXED_DATE), content)


def _number_shared_objects(config: str) -> str:
    """Replace addresses by 1, 2, ... in order of appearance; Keras only compares them."""
    numbers: dict[str, int] = {}

    def number_of(match: re.Match[str]) -> str:
        return f"{match[1]}{numbers.setdefault(match[2], len(numbers) + 1)}"

    return re.sub(r'("shared_object_id": )(\d+)', number_of, config)
