"""Statistics of float activations, gathered sample by sample in memory that does not grow with the samples.

The histogram stands on the grid of a power-of-two bin width: widening it merges pairs of bins exactly, and the
result does not depend on the order of the samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import StageError
from edgekit.quantize.plan import check_ranges

Array = npt.NDArray[Any]

BINS = 2048
MOMENTUM = 0.9
_CHUNK = 1 << 15  # values at a time: their bin numbers stay in the cache
_FINEST_WIDTH = 2.0**-126  # of a bin: the smallest normal float32
_CHECKPOINTS = 32
_STILL_WIDENING = 0.1  # of the whole range, by the second half of the samples
_MANY = 0.25  # of the tensors
_UNLIKE = 0.01  # of the values; among like samples 0.0001 is a lot for a picture
_HARMLESS = 0.02  # of the range, to be left by: clipping changes such a value by no more than that
_UNUSED = 0.1  # of the calibrated range


@dataclass
class Histogram:
    """``counts`` (2048,) of the values other than 0; bin i begins at ``(origin + i) * width``."""

    counts: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    width: float = _FINEST_WIDTH
    origin: int = 0

    @property
    def edges(self) -> Array:
        """The (2049,) borders of the bins."""
        return (self.origin + np.arange(BINS + 1)) * self.width

    @property
    def centres(self) -> Array:
        return (self.origin + np.arange(BINS) + 0.5) * self.width

    def add(self, values: Array, low: float, high: float) -> int:
        """Count finite values of any shape, which lie in ``low`` .. ``high``; return how many are 0."""
        self._cover(min(low, 0.0), max(high, 0.0))
        flat = values.reshape(-1)
        for start in range(0, flat.size, _CHUNK):
            scaled = flat[start : start + _CHUNK] * (1.0 / self.width)  # exact: a power of two
            np.floor(scaled, out=scaled)
            scaled -= self.origin
            self.counts += np.bincount(scaled.astype(np.intp), minlength=BINS)
        zeros = flat.size - int(np.count_nonzero(flat))
        self.counts[-self.origin] -= zeros
        return zeros

    def outside(self, low: float, high: float) -> int:
        """Return how many values lie outside, as far as bins can tell."""
        centres = self.centres
        return int(self.counts[(centres < low) | (centres > high)].sum())

    def _cover(self, low: float, high: float) -> None:
        """Double the bin width until the range fits beside what is counted already."""
        if self.origin * self.width <= low and high < (self.origin + BINS) * self.width:
            return
        low, high = min(low, self.origin * self.width), max(high, self._top())
        width = max(self.width, 2.0 ** (math.floor(math.log2(max(high - low, _FINEST_WIDTH) / BINS))))
        while math.floor(high / width) - math.floor(low / width) >= BINS:
            width *= 2
        origin = math.floor(low / width)
        used = np.flatnonzero(self.counts)
        places = (self.origin + used) // int(width / self.width) - origin if used.size else used
        counts = np.zeros_like(self.counts)
        np.add.at(counts, places, self.counts[used])
        self.counts, self.width, self.origin = counts, width, origin

    def _top(self) -> float:
        """Return the lower edge of the highest bin in use, which is never below 0."""
        used = np.flatnonzero(self.counts)
        return max(0.0, (self.origin + int(used[-1])) * self.width) if used.size else 0.0


class TensorStatistics:
    """What is known of one float activation after any number of samples.

    ``low``, ``high``: smallest and largest value. ``average_low``, ``average_high``: moving average of those of
    each sample. ``channel_low``, ``channel_high``: (C,) per channel, None where samples differ in C.
    ``zeros``: values that are exactly 0, which ``histogram`` leaves out. ``values``: all values.
    """

    def __init__(self, name: str, channel_axis: int = -1) -> None:
        self.name = name
        self.channel_axis = channel_axis
        self.low, self.high = math.inf, -math.inf
        self.average_low, self.average_high = 0.0, 0.0
        self.channel_low: Array | None = None
        self.channel_high: Array | None = None
        self.histogram = Histogram()
        self.zeros = self.values = self.samples = 0
        self._checkpoints = np.zeros((_CHECKPOINTS, 3))  # samples so far, low, high
        self._kept, self._stride = 0, 1

    @property
    def values_per_sample(self) -> float:
        return self.values / self.samples if self.samples else 0.0

    def observe(self, values: Array) -> None:
        """Add the tensor of one sample; raises StageError naming it if it holds NaN or infinity."""
        if not values.size:
            return
        lows, highs = _per_channel(values, self.channel_axis)
        low, high = float(lows.min()), float(highs.max())
        check_ranges({self.name: (low, high)})
        self.zeros += self.histogram.add(values, low, high)
        self.values += values.size
        self._observe_channels(lows, highs)
        kept = MOMENTUM if self.samples else 0.0
        self.average_low = kept * self.average_low + (1 - kept) * low
        self.average_high = kept * self.average_high + (1 - kept) * high
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.samples += 1
        self._remember()

    def widened(self) -> float:
        """Return the share, 0..1, of the range (with 0) that only the second half of the samples reached."""
        if self.samples < 2:
            return 0.0
        points = self._checkpoints[: self._kept]
        _, low, high = points[np.abs(points[:, 0] - self.samples / 2).argmin()]
        whole = max(self.high, 0.0) - min(self.low, 0.0)
        return float(1 - (max(high, 0.0) - min(low, 0.0)) / whole) if whole else 0.0

    def _observe_channels(self, lows: Array, highs: Array) -> None:
        if not self.samples:
            self.channel_low, self.channel_high = lows, highs
        elif self.channel_low is None or self.channel_high is None or self.channel_low.shape != lows.shape:
            self.channel_low = self.channel_high = None
        else:
            np.minimum(self.channel_low, lows, out=self.channel_low)
            np.maximum(self.channel_high, highs, out=self.channel_high)

    def _remember(self) -> None:
        """Keep the range at evenly spaced numbers of samples; when there are too many, every other one."""
        if self.samples % self._stride:
            return
        if self._kept == _CHECKPOINTS:
            self._kept //= 2
            self._checkpoints[: self._kept] = self._checkpoints[1::2].copy()
            self._stride *= 2
            if self.samples % self._stride:
                return
        self._checkpoints[self._kept] = self.samples, self.low, self.high
        self._kept += 1


def _per_channel(values: Array, axis: int) -> tuple[Array, Array]:
    """Return the smallest and largest value of every channel, (C,) each; NaN stays NaN."""
    if values.ndim < 2:
        flat = values.reshape(-1)
        return flat.min(keepdims=True), flat.max(keepdims=True)
    axis %= values.ndim
    before, channels = math.prod(values.shape[:axis]), values.shape[axis]
    parts = values.reshape(before, channels, -1)
    if parts.shape[2] == 1:  # channels last: one pass along the rows is several times faster than two axes
        rows = parts.reshape(before, channels)
        return rows.min(axis=0), rows.max(axis=0)
    return parts.min(axis=2).min(axis=0), parts.max(axis=2).max(axis=0)


Statistics = Mapping[str, TensorStatistics]


def warn_small(statistics: Statistics) -> list[str]:
    """Say whether the calibration samples were too few: whether the second half still widened many ranges.

    A few ranges widen with any number of samples: extremes are rare.
    """
    samples = max((s.samples for s in statistics.values()), default=0)
    if samples == 1:
        return ["the ranges come from one calibration sample: give more, so that they can be told from chance"]
    growing = {name: s.widened() for name, s in statistics.items() if s.widened() > _STILL_WIDENING}
    if len(growing) <= _MANY * len(statistics):
        return []
    worst = max(growing, key=lambda name: growing[name])
    return [
        f"the second half of the {samples} calibration samples still widened the ranges of {len(growing)} of "
        f"{len(statistics)} tensors by more than {_STILL_WIDENING:.0%}, that of '{worst}' by {growing[worst]:.0%}: "
        "give more samples"
    ]


def unlike(calibration: Statistics, evaluation: Statistics) -> list[str]:
    """Say where the evaluation samples leave the calibrated ranges, or hardly use them. Needs no labels.

    Both come from the same float model; raises StageError when they have no tensor in common.
    """
    shared = [name for name in evaluation if name in calibration and evaluation[name].values]
    if not shared:
        raise StageError("the two sets of statistics have no tensor in common", "Observe the same float model.")
    outside = {name: _share_outside(calibration[name], evaluation[name]) for name in shared}
    found = _sentences(
        {name: share for name, share in outside.items() if share > _expected_outside(calibration[name])},
        "{share:.1%} of the values of tensor '{name}' on the test samples lie well outside the range that the "
        "calibration samples reached{more}: calibrate on samples like those",
    )
    unused = {name: 1 - _share_used(calibration[name], evaluation[name]) for name in shared}
    return found + _sentences(
        {name: share for name, share in unused.items() if share > 1 - _UNUSED},
        "the test samples leave {share:.1%} of the calibrated range of tensor '{name}' unused{more}: "
        "the calibration samples are unlike them, or scaled differently",
    )


def _sentences(found: Mapping[str, float], sentence: str) -> list[str]:
    if not found:
        return []
    worst = max(found, key=lambda name: found[name])
    more = f" (and likewise {len(found) - 1} other tensors)" if len(found) > 1 else ""
    return [sentence.format(share=found[worst], name=worst, more=more)]


def _expected_outside(calibration: TensorStatistics) -> float:
    """Return the largest share of values outside that is no sign of anything.

    Of one value per sample, sample n + 1 is the most extreme in 2 / n of the cases; many values average out.
    """
    chance = 8 / (max(calibration.samples, 1) * math.sqrt(max(calibration.values_per_sample, 1)))
    return _UNLIKE + chance


def _share_outside(calibration: TensorStatistics, evaluation: TensorStatistics) -> float:
    low, high = min(calibration.low, 0.0), max(calibration.high, 0.0)  # ranges contain 0
    margin = _HARMLESS * (high - low)
    return evaluation.histogram.outside(low - margin, high + margin) / evaluation.values


def _share_used(calibration: TensorStatistics, evaluation: TensorStatistics) -> float:
    whole = max(calibration.high, 0.0) - min(calibration.low, 0.0)
    used = max(evaluation.high, 0.0) - min(evaluation.low, 0.0)
    return used / whole if whole else 1.0
