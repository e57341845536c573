"""A task of the user's own: the recipe's adapter file says what outputs mean and how good they are.

The recipe: ``[task] kind = "custom"``, ``adapter = "adapter.py"``; the data: ``kind = "npz"``, where ``y`` may have any
shape. The file has two functions and, if it likes, a name for its figure:

- ``decode(outputs)``: one sample's outputs by name, batch 1, to a dict of arrays: the prediction.
- ``score_samples(predictions, truth)``: (samples,) of 0 to 1, one for each; their mean is the figure, and pairing them
  gives the interval of a drop, so a metric that has no value for one sample (an F1 of all) does not fit.
- ``METRIC``: what the figure is called.

Sounds in a recording, any number of them at once (``y``: (samples, 50) of 0 and 1):

    import numpy as np
    METRIC = "labels right"

    def decode(outputs):
        return {"present": outputs["probabilities"][0] > 0.5}

    def score_samples(predictions, truth):
        return np.array([np.mean(p["present"] == t) for p, t in zip(predictions, truth)])

A tag for each word of a text (``y``: (samples, 64) of tag numbers, -1 behind the end):

    import numpy as np
    METRIC = "words right"

    def decode(outputs):
        return {"tags": outputs["logits"][0].argmax(axis=-1)}

    def score_samples(predictions, truth):
        return np.array([np.mean(p["tags"][t >= 0] == t[t >= 0]) for p, t in zip(predictions, truth)])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import RecipeError
from edgekit.tasks import Drop, Score, generic
from edgekit.tasks.adapter import load_adapter
from edgekit.tasks.bootstrap import drop_of_means

Prediction = dict[str, npt.NDArray[Any]]


class Custom:
    """The task that an adapter file describes. Every error in the file is a RecipeError that names it."""

    def __init__(self, adapter: Path) -> None:
        self.path = adapter
        self.adapter = load_adapter(adapter, ("decode", "score_samples"))
        self.PRIMARY = str(getattr(self.adapter, "METRIC", "score"))

    def check_truth(self, truth: Any, classes: Sequence[str]) -> None:
        if truth is None:
            raise RecipeError("A custom task needs labelled test samples; data.test has none.", "Add an array y.")

    def decode(self, outputs: Prediction, task: dict[str, Any]) -> Prediction:
        found = self._call("decode", dict(outputs))
        if not isinstance(found, dict) or not found:
            raise RecipeError(f"decode() of {self.path} returned {type(found).__name__}, not a dict of arrays.")
        return {str(name): np.asarray(value) for name, value in found.items()}

    def score(self, predictions: Sequence[Prediction], truth: Any, classes: Sequence[str]) -> Score:
        return Score(self.PRIMARY, float(self._each(predictions, truth).mean()))

    def drop(
        self, baseline_predictions: Sequence[Prediction], predictions: Sequence[Prediction], truth: Any,
        classes: Sequence[str], resamples: int, seed: int,
    ) -> Drop:  # fmt: skip
        before, after = (self._each(each, truth) for each in (baseline_predictions, predictions))
        return drop_of_means(before, after, resamples, seed)

    def agreement(self, baseline_predictions: Sequence[Prediction], predictions: Sequence[Prediction]) -> float:
        """Return how close the predictions' numbers are; what they mean only labels could tell."""
        wide = (
            [{k: v.astype(np.float64) for k, v in p.items()} for p in s] for s in (baseline_predictions, predictions)
        )
        return generic.agreement(*wide)

    def _each(self, predictions: Sequence[Prediction], truth: Any) -> npt.NDArray[np.float64]:
        scores = np.asarray(self._call("score_samples", list(predictions), truth))
        good = scores.shape == (len(predictions),) and scores.dtype.kind in "biuf"
        if not good or not np.isfinite(scores).all() or scores.min() < 0 or scores.max() > 1:
            raise RecipeError(
                f"score_samples() of {self.path} must return {len(predictions)} numbers of 0 to 1, one per sample; "
                f"it returned {scores.dtype} {scores.shape}."
            )
        return scores.astype(np.float64)

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            return getattr(self.adapter, name)(*arguments)
        except (Exception, SystemExit) as error:
            raise RecipeError(f"{name}() of {self.path} failed: {type(error).__name__}: {error}") from error
