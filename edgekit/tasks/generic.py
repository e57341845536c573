"""Any other model: no truth, so the figure is how closely its raw outputs agree with the baseline's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import StageError
from edgekit.tasks import Drop, Score
from edgekit.tasks.bootstrap import drop_of_means

Array = npt.NDArray[Any]
Prediction = dict[str, Array]
PRIMARY = "agreement"


def check_truth(truth: Any, classes: Sequence[str]) -> None:
    """Accept anything: agreement needs no truth."""


def decode(outputs: Prediction, task: dict[str, Any]) -> Prediction:
    """Return the raw outputs."""
    return dict(outputs)


def score(predictions: Sequence[Prediction], truth: Sequence[Prediction] | None, classes: Sequence[str]) -> Score:
    """Return the mean over samples of max(0, 1 - relative L2 error) against the baseline's predictions.

    Those are ``truth``; without it the predictions are the baseline's own and agree with themselves: 1.
    """
    agreement = _agreement(predictions if truth is None else truth, predictions)
    return Score(PRIMARY, float(agreement.mean()), {"worst sample": float(agreement.min())})


def drop(
    baseline_predictions: Sequence[Prediction], predictions: Sequence[Prediction], truth: Any,
    classes: Sequence[str], resamples: int, seed: int,
) -> Drop:  # fmt: skip
    """Return 1 minus the agreement with the baseline, resampled over the same samples."""
    agreement = _agreement(baseline_predictions, predictions)
    return drop_of_means(np.ones(len(agreement)), agreement, resamples, seed)


def agreement(baseline_predictions: Sequence[Prediction], predictions: Sequence[Prediction]) -> float:
    """Return the task's own figure, which is an agreement already."""
    return float(_agreement(baseline_predictions, predictions).mean())


def _agreement(baseline: Sequence[Prediction], predictions: Sequence[Prediction]) -> npt.NDArray[np.float64]:
    """Return (samples,) agreement, the mean over outputs so that each counts alike whatever its scale."""
    return np.array([_of_sample(right, got) for right, got in zip(baseline, predictions, strict=True)])


def _of_sample(right: Prediction, got: Prediction) -> float:
    if sorted(right) != sorted(got) or any(right[name].shape != got[name].shape for name in right):
        raise StageError(f"The outputs are {_shapes(got)}, the baseline's are {_shapes(right)}.")
    return float(np.mean([_closeness(right[name], got[name]) for name in right]))


def _closeness(right: Array, got: Array) -> float:
    reference = right.astype(np.float64)
    norm = float(np.linalg.norm(reference))
    error = float(np.linalg.norm(got.astype(np.float64) - reference))
    if norm == 0.0:
        return float(error == 0.0)
    return max(0.0, 1.0 - error / norm)


def _shapes(outputs: Prediction) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in outputs.items())
