"""Samples held apart from training: they judge amounts of pruning and epochs, and nothing learns from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from edgekit import tasks
from edgekit.prune.signature import Arrays, batches, predictor

_SHARE = 6  # every sixth sample
_AT_MOST = 384
_LEAST = 12
_BATCH = 32
Outputs = list[dict[str, npt.NDArray[Any]]]


@dataclass(frozen=True)
class Split:
    """Numbers of the samples that are learned from, and of those held apart (none where there are too few)."""

    train: npt.NDArray[np.int64]
    held: npt.NDArray[np.int64]

    @classmethod
    def of(cls, samples: int) -> Split:
        """Hold every sixth sample apart, so that neighbours do not all end up on one side; 384 at most."""
        numbers = np.arange(samples)
        if samples < _LEAST:
            return cls(numbers, numbers[:0])
        held = numbers[_SHARE - 1 :: max(_SHARE, -(-samples // _AT_MOST))]
        return cls(np.setdiff1d(numbers, held), held)


class Judge:
    """What a network loses against ``reference`` on held samples, in points of the task's metric.

    With truth: the metric's difference. Without: the loss of agreement with the reference, in points
    of the metric by ``slack``, the agreement a point of the metric is worth.
    """

    def __init__(
        self, reference: keras.Model, inputs: Arrays, truth: Sequence[Any] | None, classes: Sequence[str],
        task: dict[str, Any], slack: float,
    ) -> None:  # fmt: skip
        self._scorer = tasks.load(task["kind"], task.get("adapter"))
        self._inputs, self._truth, self._classes, self._slack = inputs, truth, classes, slack
        self._task = {**task, "classes": classes}
        self._reference = self._predict(reference)
        self._value = self._score(self._reference) if truth is not None else 1.0

    @property
    def by(self) -> str:
        """Say what the points are."""
        return "labels" if self._truth is not None else "agreement"

    def drop(self, network: keras.Model) -> float:
        """Return the loss in points, below zero for a gain."""
        predictions = self._predict(network)
        if self._truth is not None:
            return 100.0 * (self._value - self._score(predictions))
        return 100.0 * (1.0 - self._scorer.agreement(self._reference, predictions)) / self._slack

    def _score(self, predictions: Outputs) -> float:
        return self._scorer.score(predictions, self._truth, self._classes).value

    def _predict(self, network: keras.Model) -> Outputs:
        forward: Callable[[Arrays], Arrays] = predictor(network)
        found: Outputs = []
        for part in batches(self._inputs, _BATCH):
            outputs = forward(part)
            for index in range(len(next(iter(outputs.values())))):
                one = {name: array[index : index + 1] for name, array in outputs.items()}
                found.append(self._scorer.decode(one, self._task))
        return found
