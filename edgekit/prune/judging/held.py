"""Samples held apart from training: they judge amounts of pruning and epochs, and nothing learns from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy.typing as npt

from edgekit.prune.judging.judge import PointsLost
from edgekit.prune.judging.split import Split as Split
from edgekit.prune.keras.signature import Arrays, batches, predictor

_BATCH = 32


class Judge:
    """What a Keras network loses against ``reference`` on held samples, as ``PointsLost`` counts it."""

    def __init__(
        self, reference: keras.Model, inputs: Arrays, truth: Sequence[Any] | None, classes: Sequence[str],
        task: dict[str, Any], slack: float,
    ) -> None:  # fmt: skip
        self._inputs = inputs
        self._lost = PointsLost(self._answers(reference), truth, classes, task, slack)

    @property
    def by(self) -> str:
        """Say what the points are."""
        return self._lost.by

    def drop(self, network: keras.Model) -> float:
        """Return the loss in points, below zero for a gain."""
        return self._lost.of(self._answers(network))

    def _answers(self, network: keras.Model) -> Iterator[dict[str, npt.NDArray[Any]]]:
        forward: Callable[[Arrays], Arrays] = predictor(network)
        for part in batches(self._inputs, _BATCH):
            outputs = forward(part)
            for index in range(len(next(iter(outputs.values())))):
                yield {name: array[index : index + 1] for name, array in outputs.items()}
