"""What a network loses on samples that nothing learned from, in points of the task's metric."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy.typing as npt

from edgekit import tasks

Answers = Iterable[dict[str, npt.NDArray[Any]]]
"""The raw outputs of a network for each sample, each with a batch axis of one."""


class PointsLost:
    """The loss against a reference's answers.

    With truth: the metric's difference. Without: the loss of agreement with the reference, in points
    of the metric by ``slack``, the agreement a point of the metric is worth.
    """

    def __init__(
        self, reference: Answers, truth: Sequence[Any] | None, classes: Sequence[str], task: dict[str, Any],
        slack: float,
    ) -> None:  # fmt: skip
        self._scorer = tasks.load(task["kind"], task.get("adapter"))
        self._truth, self._classes, self._slack = truth, classes, slack
        self._task = {**task, "classes": classes}
        self._reference = self._decoded(reference)
        self._value = self._score(self._reference) if truth is not None else 1.0

    @property
    def by(self) -> str:
        """Say what the points are."""
        return "labels" if self._truth is not None else "agreement"

    def of(self, answers: Answers) -> float:
        """Return the loss in points, below zero for a gain."""
        predictions = self._decoded(answers)
        if self._truth is not None:
            return 100.0 * (self._value - self._score(predictions))
        return 100.0 * (1.0 - self._scorer.agreement(self._reference, predictions)) / self._slack

    def _score(self, predictions: list[dict[str, npt.NDArray[Any]]]) -> float:
        return self._scorer.score(predictions, self._truth, self._classes).value

    def _decoded(self, answers: Answers) -> list[dict[str, npt.NDArray[Any]]]:
        return [self._scorer.decode(one, self._task) for one in answers]
