"""Named arrays as .npz files, whatever their names: numpy's own writer takes ``file`` for its first argument."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_DATE = (1980, 1, 1, 0, 0, 0)  # equal content, equal bytes


def save(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write plain arrays; raises ValueError for objects, which only a pickle could hold."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _DATE), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def load(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read plain arrays back."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
