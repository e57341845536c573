"""What trials came to, written down as each ends: a search that was killed goes on where it was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgekit import arrays
from edgekit.quantize.plan import Plan
from edgekit.search.trial import Trial

LARGEST_BYTES = 1 << 30  # of outputs on disk; trials beyond it would be run again


class Record:
    """The trials of one search, in their order.

    They are handed back as long as the same is asked for in the same order; from the first difference on, what
    was written down is forgotten.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._next = 0
        self._bytes = 0

    def known(self, key: str) -> Trial | None:
        """Return what the next trial came to before, if it was the one that ``key`` says."""
        folder = self._folder / f"{self._next:05d}"
        facts = folder / "facts.json"
        if not facts.is_file():
            return None
        try:
            found = json.loads(facts.read_text())
            stored = arrays.load(folder / "outputs.npz")
        except (OSError, ValueError, zipfile.BadZipFile):  # a full disk, or a failing one
            found, stored = {"key": ""}, {}
        if found.pop("key") != key:
            self._forget()
            return None
        self._bytes += sum(array.nbytes for array in stored.values())
        self._next += 1
        samples = 1 + max((int(name.partition("/")[0]) for name in stored), default=-1)
        outputs: list[dict[str, npt.NDArray[np.generic]]] = [{} for _ in range(samples)]
        for name, array in stored.items():
            number, _, output = name.partition("/")
            outputs[int(number)][output] = array
        return Trial(tuple(outputs), **found)

    def add(self, key: str, trial: Trial) -> None:
        """Write a trial down, whole or not at all."""
        named = {f"{number}/{name}": a for number, made in enumerate(trial.outputs) for name, a in made.items()}
        self._bytes += sum(array.nbytes for array in named.values())
        folder = self._folder / f"{self._next:05d}"
        self._next += 1
        if self._bytes > LARGEST_BYTES:
            return
        folder.mkdir(parents=True, exist_ok=True)
        arrays.save(folder / "outputs.npz", named)
        facts = {"key": key, "size_bytes": trial.size_bytes, "refusal": trial.refusal, "fastest_ms": trial.fastest_ms}
        unfinished = folder / "facts.unfinished"
        unfinished.write_text(json.dumps(facts))
        os.replace(unfinished, folder / "facts.json")

    def _forget(self) -> None:
        number = self._next
        while (folder := self._folder / f"{number:05d}").is_dir():
            shutil.rmtree(folder)
            number += 1


def key_of(model: Path, plan: Plan | None, limit: int | None) -> str:
    """Return a hash of what a trial depends on, but for the samples: a search has the same ones from start to end."""
    digest = hashlib.sha256(model.read_bytes())
    digest.update(repr((plan.to_json() if plan else "", limit)).encode())
    return digest.hexdigest()
