"""Draw the batches of an epoch: samples as they are, samples moved with their labels, and mixed ones without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from edgekit.prune.keras.signature import Arrays, sample_count
from edgekit.prune.recovery.augmentation import mix
from edgekit.prune.recovery.label_augmentation import can_move, move
from edgekit.prune.recovery.losses.teaching import Encode

Ask = Callable[[Arrays], Arrays]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Lesson:
    """Samples to learn from or to be judged by: inputs and truth by name, and how truth becomes a loss's labels.

    others: more inputs, of which nobody knows the truth; mixed images are made of them too.
    """

    inputs: Arrays
    truth: Arrays | None = None
    encode: Encode = dict
    others: Arrays | None = None

    @property
    def labels(self) -> Arrays | None:
        return None if self.truth is None else self.encode(self.truth)

    def part(self, chosen: npt.NDArray[Any]) -> Lesson:
        """Return the samples of these numbers, without ``others``."""
        truth = None if self.truth is None else _rows(self.truth, chosen)
        return Lesson(_rows(self.inputs, chosen), truth, self.encode)


@dataclass(frozen=True)
class Batches:
    """How the samples of a lesson come to the student.

    taught: what the teacher says of all of them; None: it is asked each time. ask_teacher: what it says of others.
    mixed_share: of the steps. moved_share: of the others, where labels can move with the samples. symmetric: what is
    mirrored left to right keeps its labels.
    """

    lesson: Lesson
    taught: Arrays | None
    size: int
    ask_teacher: Ask
    mixed_share: float = 0.0
    moved_share: float = 0.0
    symmetric: bool = False

    def epoch(self, generator: np.random.Generator) -> Iterator[dict[str, Arrays]]:
        """Yield full batches in random order, each of "inputs", "taught" and "labels" (empty without a label)."""
        samples = sample_count(self.lesson.inputs)
        order = generator.permutation(samples)[: samples // self.size * self.size]
        for chosen in order.reshape(-1, self.size):
            part = self.lesson.part(chosen)
            if generator.random() < self.mixed_share:
                mixed = Lesson(mix(self._drawn(part.inputs, generator), generator))
                yield _parts(mixed, self.ask_teacher(mixed.inputs))
            elif part.truth and self._moves(part.inputs, part.truth, generator):
                moved = Lesson(*move(part.inputs, part.truth, generator, symmetric=self.symmetric), part.encode)
                yield _parts(moved, self.ask_teacher(moved.inputs))
            else:
                yield _parts(part, _rows(self.taught, chosen) if self.taught else self.ask_teacher(part.inputs))

    def _drawn(self, inputs: Arrays, generator: np.random.Generator) -> Arrays:
        """Return a batch drawn from all samples and the others; without others the one that is at hand."""
        if self.lesson.others is None:
            return inputs
        samples = sample_count(self.lesson.inputs)
        drawn = generator.integers(0, samples + sample_count(self.lesson.others), self.size)
        return {
            name: np.stack([array[i] if i < samples else self.lesson.others[name][i - samples] for i in drawn])
            for name, array in self.lesson.inputs.items()
        }

    def _moves(self, inputs: Arrays, truth: Arrays, generator: np.random.Generator) -> bool:
        return bool(self.moved_share and can_move(inputs, truth) and generator.random() < self.moved_share)


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield the same items, each next one made in a thread of its own while the last one is used."""
    with ThreadPoolExecutor(1) as maker:
        upcoming = maker.submit(next, items, None)
        while (item := upcoming.result()) is not None:
            upcoming = maker.submit(next, items, None)
            yield item


def _parts(lesson: Lesson, taught: Arrays) -> dict[str, Arrays]:
    return {"inputs": lesson.inputs, "taught": taught, "labels": lesson.labels or {}}


def _rows(arrays: Arrays, chosen: npt.NDArray[Any]) -> Arrays:
    return {name: array[chosen] for name, array in arrays.items()}
