"""What a model is for: one module per task decodes and scores; named here, imported when used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from edgekit.errors import RecipeError

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Prediction = dict[str, Array]

TASKS: dict[str, str] = {
    "detection": "edgekit.tasks.detection",
    "classification": "edgekit.tasks.classification",
    "generic": "edgekit.tasks.generic",
    "custom": "edgekit.tasks.custom",
}

AGREEMENT_OF_A_POINT = {"detection": 1.0, "classification": 1.5, "generic": 0.8, "custom": 1.5}
"""Points of agreement with the float model that cost a point of the metric, by kind.

Agreement counts every changed answer, the metric only what was right: on detectors it lost a fifth to three quarters.
"""


@dataclass(frozen=True)
class Score:
    """The task metric on all samples: ``value`` and every other figure are 0 to 1, higher is better."""

    metric: str
    value: float
    secondary: dict[str, float] = field(default_factory=dict)
    per_class: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Drop:
    """Baseline minus this, in points (hundredths of the metric), with its 95 % paired bootstrap interval."""

    points: float
    low_points: float
    high_points: float


class Task(Protocol):
    """What each module of ``TASKS`` offers. A prediction is what ``decode`` made of one sample."""

    PRIMARY: str

    def check_truth(self, truth: Any, classes: Sequence[str]) -> None:
        """Raise RecipeError where the dataset's truth is missing or not of this task."""

    def decode(self, outputs: dict[str, Array], task: dict[str, Any]) -> Prediction:
        """Make a prediction of one sample's outputs (by name, batch 1); ``task`` is the recipe's table."""

    def score(self, predictions: Sequence[Prediction], truth: Any, classes: Sequence[str]) -> Score:
        """Score predictions, one per sample, against the dataset's truth."""

    def drop(
        self,
        baseline_predictions: Sequence[Prediction],
        predictions: Sequence[Prediction],
        truth: Any,
        classes: Sequence[str],
        resamples: int,
        seed: int,
    ) -> Drop:
        """Compare with the baseline's predictions for the same samples, in the same order."""

    def agreement(self, baseline_predictions: Sequence[Prediction], predictions: Sequence[Prediction]) -> float:
        """Return 0 to 1: how far predictions repeat the baseline's own, where nobody has labels."""


def load(kind: str, adapter: Path | None = None) -> Task:
    """Import the module of one task; ``adapter``: the user's file that "custom" runs.

    Raises RecipeError for a kind that does not exist.
    """
    if kind not in TASKS:
        raise RecipeError(f"There is no task kind {kind!r}.", f"Kinds: {', '.join(TASKS)}")
    module = import_module(TASKS[kind])
    return cast(Task, module.Custom(adapter) if kind == "custom" else module)
