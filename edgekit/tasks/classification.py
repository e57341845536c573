"""Classification: one score per class, the highest wins (the first of equals, as argmax does everywhere)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import RecipeError, StageError
from edgekit.tasks import Drop, Score
from edgekit.tasks.bootstrap import drop_of_means

Array = npt.NDArray[Any]
Prediction = dict[str, Array]
PRIMARY = "top-1"
_TOP = 5


def check_truth(truth: Any, classes: Sequence[str]) -> None:
    """Raise RecipeError unless truth is (samples,) class numbers within ``classes``."""
    if truth is None:
        raise RecipeError(
            "Classification needs labelled test samples; data.test has none.",
            "npz: add an array y of class numbers; imagefolder: one folder per class.",
        )
    labels = np.asarray(truth) if isinstance(truth, np.ndarray) else None
    if labels is None or labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        found = "boxes" if labels is None else f"{labels.dtype} {labels.shape}"
        raise RecipeError(f"Classification needs one integer class number per test sample; found {found}.")
    if labels.min() < 0 or (classes and labels.max() >= len(classes)):
        raise RecipeError(
            f"Test labels run from {labels.min()} to {labels.max()}; there are {len(classes)} class names."
        )


def decode(outputs: Prediction, task: dict[str, Any]) -> Prediction:
    """Return ``scores`` (classes,) float32 from the only output, or from the one with most values."""
    name = min(outputs, key=lambda output: (-outputs[output].size, output))
    scores = outputs[name].reshape(-1).astype(np.float32)
    classes = task.get("classes") or ()
    if len(scores) < 2 or (classes and len(scores) != len(classes)):
        expected = f"there are {len(classes)} class names" if classes else "one per class is needed"
        raise RecipeError(
            f"Output {name!r} has {len(scores)} value(s) per sample; {expected}.",
            f"The model's outputs: {', '.join(f'{key} {value.shape}' for key, value in outputs.items())}",
        )
    return {"scores": scores}


def score(predictions: Sequence[Prediction], truth: Array, classes: Sequence[str]) -> Score:
    """Return top-1, top-5 where there are more than five classes, and top-1 for each class that has samples.

    Raises StageError where a score is NaN: no rank means no figure.
    """
    ranks, count = _ranks(predictions, truth)
    names = classes or [str(index) for index in range(count)]
    hits = ranks == 0
    per_class = {name: float(hits[truth == index].mean()) for index, name in enumerate(names) if (truth == index).any()}
    secondary = {f"top-{_TOP}": float((ranks < _TOP).mean())} if count > _TOP else {}
    return Score(PRIMARY, float(hits.mean()), secondary, per_class)


def drop(
    baseline_predictions: Sequence[Prediction], predictions: Sequence[Prediction], truth: Array,
    classes: Sequence[str], resamples: int, seed: int,
) -> Drop:  # fmt: skip
    """Return baseline minus this in top-1, resampled over the same samples."""
    before, after = ((_ranks(each, truth)[0] == 0).astype(np.float64) for each in (baseline_predictions, predictions))
    return drop_of_means(before, after, resamples, seed)


def agreement(baseline_predictions: Sequence[Prediction], predictions: Sequence[Prediction]) -> float:
    """Return 1 minus the mean total variation distance of the class probabilities; it bounds the changed answers."""
    before, after = (
        probabilities(np.stack([prediction["scores"] for prediction in each]))
        for each in (baseline_predictions, predictions)
    )
    return float(1.0 - 0.5 * np.abs(before - after).sum(axis=1).mean())


def probabilities(scores: Array) -> npt.NDArray[np.float64]:
    """Return (samples, classes) that add up to 1: as they are, or the softmax of logits."""
    values = scores.astype(np.float64)
    if values.min() >= 0.0 and np.allclose(values.sum(axis=1), 1.0, atol=0.05):
        return values
    exponents = np.exp(values - values.max(axis=1, keepdims=True))
    normalized: npt.NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return normalized


def _ranks(predictions: Sequence[Prediction], truth: Array) -> tuple[npt.NDArray[np.int64], int]:
    """Return (samples,) how many classes are ranked before the true one, and the number of classes."""
    scores = np.stack([prediction["scores"] for prediction in predictions])
    if np.isnan(scores).any():
        raise StageError(f"outputs NaN: {int(np.isnan(scores).any(axis=1).sum())} of {len(scores)} samples")
    if truth.max() >= scores.shape[1]:
        raise RecipeError(f"The test labels go up to {truth.max()}, the model has {scores.shape[1]} classes.")
    own = np.take_along_axis(scores, truth[:, np.newaxis].astype(np.int64), axis=1)
    earlier = np.arange(scores.shape[1]) < truth[:, np.newaxis]
    ranks: npt.NDArray[np.int64] = ((scores > own) | ((scores == own) & earlier)).sum(axis=1)
    return ranks, scores.shape[1]
