"""The samples that a diagnosis looks at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgekit.artifact import TensorSpec
from edgekit.dataset import Dataset, Preprocess, open_dataset
from edgekit.diagnose.execute import Runner, Sample
from edgekit.errors import StageError


class Samples(Sequence[Sample]):
    """The dataset's samples as inputs of the float model, read when asked for; ``limit`` of them, spread evenly.

    Folders list their classes one after another: the first samples would be all of one class.
    """

    def __init__(self, dataset: dict[str, Any], runner: Runner, limit: int, *, labelled: bool) -> None:
        preprocess = Preprocess.from_json(dataset["preprocess"])
        self._data: Dataset = open_dataset(
            dataset["kind"], dataset["path"], dataset["labels"], preprocess,
            labelled=labelled, classes=dataset["classes"],
        )  # fmt: skip
        self._specs = [
            TensorSpec(spec["name"], (1, *spec["shape"][1:]) if spec["shape"] else (), spec["dtype"])
            for spec in runner.inputs
        ]
        count = min(limit, len(self._data))
        if count < 1:
            raise StageError("There are no samples to compare on.", "Give at least one; calibration samples will do.")
        self._positions = np.linspace(0, len(self._data) - 1, count).round().astype(int).tolist()
        self.classes = self._data.classes

    @property
    def truth(self) -> Any:
        """Return the labels of these samples, or None."""
        truth = self._data.truth
        if truth is None:
            return None
        chosen = [truth[position] for position in self._positions]
        return np.asarray(chosen) if isinstance(truth, np.ndarray) else chosen

    def name(self, index: int) -> str:
        return self._data.name(self._positions[index])

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: Any) -> Any:
        return self._data.inputs(self._positions[index], self._specs)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))
