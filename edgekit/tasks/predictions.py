"""Predictions of one artifact as a file of plain arrays: what the paired drop is computed from.

Per field: ``NAME/values`` flat, ``NAME/offsets``, ``NAME/shapes`` per sample; ``samples`` a hash of the set.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import StageError

Array = npt.NDArray[Any]
Prediction = dict[str, Array]
_SAMPLES, _VALUES, _SHAPES, _OFFSETS = "samples", "/values", "/shapes", "/offsets"


def save_predictions(path: Path, predictions: Sequence[Prediction], samples: str) -> None:
    """Write predictions (same fields and ranks in each); ``samples`` is a hash of the set they belong to."""
    arrays: dict[str, Array] = {_SAMPLES: np.array(samples)}
    for name in sorted(predictions[0]):
        column = [prediction[name] for prediction in predictions]
        arrays[name + _VALUES] = np.concatenate([array.reshape(-1) for array in column])
        arrays[name + _SHAPES] = np.array([array.shape for array in column], np.int64)
        arrays[name + _OFFSETS] = np.cumsum([0, *(array.size for array in column)], dtype=np.int64)
    np.savez(path, allow_pickle=False, **arrays)  # numpy dates every member 1980: equal content, equal bytes


def load_predictions(path: Path, samples: str) -> list[Prediction]:
    """Read predictions back. Raises StageError for an unreadable file or one of another sample set."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        found = str(arrays[_SAMPLES])
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise StageError(f"{path} is not a readable file of predictions: {error}") from error
    if found != samples:
        raise StageError(
            f"{path} holds predictions for another set of test samples.",
            "A drop is paired, sample by sample: score the baseline again on the present data.",
        )
    names = [name.removesuffix(_VALUES) for name in arrays if name.endswith(_VALUES)]
    columns = {name: _column(arrays, name) for name in names}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _column(arrays: dict[str, Array], name: str) -> list[Array]:
    values, shapes, offsets = (arrays[name + part] for part in (_VALUES, _SHAPES, _OFFSETS))
    return [
        values[start:end].reshape(tuple(shape))
        for start, end, shape in zip(offsets[:-1], offsets[1:], shapes.tolist(), strict=True)
    ]
