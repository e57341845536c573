"""What one float model hands on: its inputs and outputs on a few samples, which every later file is held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit import arrays
from edgekit.artifact import TensorSpec
from edgekit.convert.finish import reference_of
from edgekit.convert.parity import compare
from edgekit.dataset import Preprocess, open_dataset
from edgekit.errors import StageError

Arrays = dict[str, npt.NDArray[Any]]
INPUTS, REFERENCE, FIRST = "inputs.npz", "reference.npz", "first.npz"


def check_parity(path: Path, format: str, inputs: Arrays, reference: Arrays, tolerance: float, name: str) -> float:
    """Return how far a file is from ``reference``; raises StageError beyond ``tolerance``. ``name``: of the file."""
    parity = compare(reference, reference_of(path, format, inputs), tolerance)
    if not parity.passed:
        raise StageError(
            f"The {name} file does not compute what the source model computes: {parity.problem}.",
            "Nothing was emitted from it. Please report the architecture: this is a conversion fault.",
        )
    return float(parity.max_error)


def parity_inputs(dataset: dict[str, Any], specs: tuple[TensorSpec, ...], samples: int) -> Arrays:
    """Return the first ``samples`` calibration samples, (N, ...) per input."""
    data = open_dataset(
        dataset["kind"], dataset["path"], None, Preprocess.from_json(dataset["preprocess"]), labelled=False
    )
    chosen = list(data.batches(specs, samples))
    return {spec.name: np.concatenate([sample[spec.name] for sample in chosen]) for spec in specs}


def save(out: Path, inputs: Arrays, outputs: Arrays) -> None:
    """Write the hand-off to ``out``; raises StageError where an output is not finite."""
    bad = [name for name, array in outputs.items() if not np.isfinite(array.astype(np.float64)).all()]
    if bad:
        raise StageError(
            f"The source model's output {bad[0]!r} is NaN or infinite on a calibration sample.",
            "Check [preprocess] and the model before optimizing it.",
        )
    arrays.save(out / INPUTS, inputs)
    arrays.save(out / REFERENCE, outputs)
    arrays.save(out / FIRST, {name: array[:1] for name, array in inputs.items()})
