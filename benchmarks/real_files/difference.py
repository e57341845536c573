"""How far a float file is from the file it was made of, each in its own runtime."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.runtimes import open_model

Array = npt.NDArray[Any]
_SAMPLES = 8


def relative(source: Path, made: Path, data: Path) -> float:
    """Return the largest difference of any output over the largest value of that output, on a few samples."""
    arrays = np.load(data)
    worst = 0.0
    references = _of_source(source, arrays)
    for expected, found in zip(references, _run(made, arrays), strict=True):
        if expected.shape != found.shape or not np.isfinite(found).all():
            return float("inf")
        wide = expected.astype(np.float64)
        worst = max(worst, float(np.abs(wide - found).max() / np.abs(wide).max()))
    return worst


def _of_source(source: Path, arrays: Any) -> list[Array]:
    if source.suffix != ".h5":
        return _run(source, arrays)
    from edgekit import keras_io  # TensorFlow takes seconds to import

    found = keras_io.load(source)(arrays["x"][:_SAMPLES], training=False)
    return [np.asarray(output) for output in (found if isinstance(found, list) else [found])]


def _run(path: Path, arrays: Any) -> list[Array]:
    session = open_model(path, path.suffix[1:])
    rows = []
    for i in range(_SAMPLES):
        given = []
        for spec in session.inputs:
            sample = arrays[spec["name"] if spec["name"] in arrays else "x"][i : i + 1]
            other = [a != b for a, b in zip(sample.shape[1:], spec["shape"][1:], strict=True) if b > 0]
            given.append(np.ascontiguousarray(np.moveaxis(sample, 1, -1)) if any(other) else sample)
        rows.append(session.run(given))
    return [np.concatenate([np.atleast_1d(row[k]) for row in rows]) for k in range(len(session.outputs))]


if __name__ == "__main__":  # in a process of its own: TensorFlow keeps its memory
    print(relative(*map(Path, sys.argv[1:4])))
