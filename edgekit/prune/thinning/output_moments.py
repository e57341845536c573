"""Mean and covariance of what layers compute before bias and activation, on samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edgekit.prune.keras.signature import Arrays, as_tensors, batches, call
from edgekit.prune.thinning.low_rank_graph import Candidate

_BATCH = 16


@dataclass(frozen=True)
class Moments:
    """``mean`` (width,) and ``covariance`` (width, width) over samples and positions, in float64."""

    mean: npt.NDArray[np.float64]
    covariance: npt.NDArray[np.float64]


def moments(model: keras.Model, found: Sequence[Candidate], samples: Arrays) -> list[Moments]:
    """Run the model once over ``samples`` and return the moments of each candidate's outputs, in order."""
    taps = keras.Model(model.inputs, {str(index): item.source for index, item in enumerate(found)})

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def rows(tensors: dict[str, tf.Tensor]) -> list[tf.Tensor]:
        read = call(taps, tensors)
        return [
            tf.reshape(tf.cast(item.linear(read[str(index)]), tf.float32), (-1, item.width))
            for index, item in enumerate(found)
        ]

    shifts: list[Any] = []
    sums = [np.zeros(item.width) for item in found]
    squares = [np.zeros((item.width, item.width)) for item in found]
    counts = [0] * len(found)
    for part in batches(samples, _BATCH):
        computed = rows(as_tensors(part))
        # The first batch's mean, taken off everything: a large mean would swallow the variance in float32.
        shifts = shifts or [tf.reduce_mean(one, axis=0) for one in computed]
        for index, one in enumerate(computed):
            centred = one - shifts[index]
            sums[index] += tf.reduce_sum(centred, axis=0).numpy().astype(np.float64)
            squares[index] += tf.linalg.matmul(centred, centred, transpose_a=True).numpy().astype(np.float64)
            counts[index] += int(one.shape[0])
    return [
        Moments(
            shift.numpy().astype(np.float64) + total / count, square / count - np.outer(total / count, total / count)
        )
        for shift, total, square, count in zip(shifts, sums, squares, counts, strict=True)
    ]
