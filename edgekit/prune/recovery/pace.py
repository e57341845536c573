"""How much there is room for: samples in memory, and epochs in the minutes that a search of the amount may take."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np

from edgekit.artifact import TensorSpec
from edgekit.prune.keras.signature import Arrays, batches, predictor, sample_count

MOST_BYTES = 4 << 30  # of samples in memory; a batch is drawn from all of them at random
_TIMED = 3  # batches, after one that compiles
_STEP = 4.0  # of a training step in forward passes: forward, backward, update, and the teacher's word on mixed samples


def affordable_samples(specs: Sequence[TensorSpec]) -> int:
    """Return how many samples may lie in memory."""
    return MOST_BYTES // max(1, sum(math.prod(spec.shape) * np.dtype(spec.dtype).itemsize for spec in specs))


def affordable_epochs(
    network: keras.Model, inputs: Arrays, *, wanted: int, batch: int, networks: float, minutes: float, memo: Path
) -> int:
    """Return how many of the ``wanted`` epochs fit, at least one.

    networks: how much is trained for as many epochs each, in sizes of ``network``. What was found is kept in ``memo``
    and taken from there: a killed build goes on as it began.
    """
    if memo.is_file():
        return int(json.loads(memo.read_text()))
    seconds = _seconds_per_sample(network, inputs, batch) * sample_count(inputs) * _STEP * networks
    found = wanted if seconds * wanted <= minutes * 60 else max(1, int(minutes * 60 / seconds))
    memo.write_text(json.dumps(found))
    return found


def effort(keep: float) -> float:
    """Return what it takes to train a network cut to ``keep``, in trainings of the unpruned one; both ask it."""
    return (keep * (_STEP - 1) + 1) / _STEP


def _seconds_per_sample(network: keras.Model, inputs: Arrays, batch: int) -> float:
    """Return the time of a forward pass: of a few batches the fastest, since others may use the machine, too."""
    forward, taken = predictor(network), []
    for part, _ in zip(_again(inputs, batch), range(_TIMED + 1), strict=False):
        start = time.perf_counter()
        forward(part)
        taken.append((time.perf_counter() - start) / sample_count(part))
    return min(taken[1:] or taken)


def _again(inputs: Arrays, batch: int) -> Iterator[Arrays]:
    while True:
        yield from batches(inputs, batch)
