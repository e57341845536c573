"""Hold the calibration samples against the test samples: ranges from other data, or other preprocessing, do not fit.

Inputs alone are looked at, never labels or scores, and nothing is decided on it: it is a warning with its figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.artifact import TensorSpec
from edgekit.dataset import Preprocess, open_dataset
from edgekit.progress import Progress
from edgekit.quantize import calibrate
from edgekit.quantize.graph import read_graph
from edgekit.quantize.observers import TensorStatistics, unlike
from edgekit.runtimes import open_model

_ENOUGH = 32  # of either; figures of whole sets hardly differ from those of as many, spread evenly


def run(
    *, out: Path, progress: Progress, model: Path, format: str, calibration: dict[str, Any], samples: int,
    test: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Return ``notes``: where the test samples leave the calibrated ranges of the float ``model``, or hardly use them.

    ``calibration``, ``test``: kind, path, preprocess; the first ``samples`` of the former are those that set ranges.
    """
    specs = tuple(TensorSpec(i["name"], tuple(i["shape"]), i["dtype"]) for i in open_model(model, format).inputs)

    def seen(dataset: dict[str, Any], limit: int | None, start: float, words: str) -> dict[str, TensorStatistics]:
        data = open_dataset(
            dataset["kind"], dataset["path"], None, Preprocess.from_json(dataset["preprocess"]), labelled=False
        )
        positions = _spread(min(limit or len(data), len(data)))

        def counted() -> Iterator[dict[str, Any]]:
            for number, position in enumerate(positions):
                progress(start + 0.5 * number / len(positions), f"{words} sample {number + 1} of {len(positions)}")
                yield data.inputs(position, specs)

        return calibrate.observe(model, format, counted())

    calibrated = seen(calibration, samples, 0.0, "calibration")
    tested = seen(test, None, 0.5, "test")
    tensors = read_graph(model, format).inputs
    names = dict(zip(tensors, (spec.name for spec in specs), strict=True))  # the user's, not the converter's
    return {"notes": _notes(calibrated, tested, names)}


def _spread(count: int) -> list[int]:
    positions: list[int] = np.linspace(0, count - 1, min(count, _ENOUGH)).round().astype(int).tolist()
    return positions


def _notes(
    calibrated: dict[str, TensorStatistics], tested: dict[str, TensorStatistics], inputs: dict[str, str]
) -> list[str]:
    """Ask the inputs first: where they differ all else follows from it, and preprocessing is the likely reason."""
    floats = {tensor: name for tensor, name in inputs.items() if tensor in calibrated and tensor in tested}
    if floats:
        before, after = ({name: side[tensor] for tensor, name in floats.items()} for side in (calibrated, tested))
        found = unlike(before, after)
        if found:
            return [f"{sentence}. Check that both are preprocessed alike" for sentence in found]
    return unlike(calibrated, tested)
