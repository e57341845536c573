"""The state of a training on disk after each epoch, so that a killed one goes on where it was."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgekit.prune.keras.functional import weight_array

_STATE = "state"


class Checkpoint:
    """One file, replaced as a whole: it holds an earlier epoch or this one, never half of it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def save(self, groups: Mapping[str, Sequence[keras.Variable]], state: dict[str, Any]) -> None:
        """Write the values of all variables, by group, and a JSON-able state."""
        if self._path is None:
            return
        arrays = {
            f"{group}/{index}": weight_array(variable)
            for group, variables in groups.items()
            for index, variable in enumerate(variables)
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._path.with_suffix(".unfinished")
        with unfinished.open("wb") as stream:
            np.savez(stream, **{_STATE: np.array(json.dumps(state))}, **arrays)  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, self._path)

    def load(self, groups: Mapping[str, Sequence[keras.Variable]]) -> dict[str, Any] | None:
        """Put saved values into the variables and return the state; None where there is nothing usable."""
        if self._path is None:
            return None
        try:
            with self._path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
                state: dict[str, Any] = json.loads(str(stored[_STATE]))
                found = [
                    (variable, stored[f"{group}/{index}"])
                    for group, variables in groups.items()
                    for index, variable in enumerate(variables)
                ]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # none yet, or the disk damaged it
            return None
        if any(tuple(variable.shape) != array.shape for variable, array in found):
            return None
        for variable, array in found:
            variable.assign(array)
        return state
