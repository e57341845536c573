"""Turn statistics into ranges: five ways to clip an activation, and the one that costs each tensor the least.

Errors are expected squared errors on the histogram at 8 bits: rounding inside the range, clipping outside it.
Exact zeros count nowhere, since every range holds 0 and 8 bits hold it exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgekit.errors import RecipeError
from edgekit.quantize.decide import tail
from edgekit.quantize.graph import Graph
from edgekit.quantize.kernels import MOVES
from edgekit.quantize.observers import BINS, TensorStatistics

Array = npt.NDArray[np.float64]
Range = tuple[float, float]
RangeOf = Callable[[TensorStatistics], Range]

_STEPS = 255  # of 8 bits
_PERCENTILE = 0.9999  # of the values, both tails together
_SHRINK = np.linspace(1.0, 0.01, 100)
_LEVELS = 128  # entropy: of the magnitudes, as TensorRT's calibrator has it
_ENTROPY_STRIDE = 8  # bins between two candidate thresholds
_EMPTY = 1e-4  # of one value: what TensorRT's calibrator puts where there is none
_FEW_VALUES = 1024  # per sample: the tails of a tiny vector are its content
_WORTH = 0.95  # a clipped range has to leave less than this share of the error of an unclipped one
_GATES = frozenset({"LOGISTIC", "SOFTMAX", "Sigmoid", "Softmax", "HardSigmoid"})


def minmax(statistics: TensorStatistics) -> Range:
    """Return the smallest and the largest value, with 0 between them."""
    return _with_zero(statistics.low, statistics.high)


def moving_average(statistics: TensorStatistics) -> Range:
    """Return the moving average of the samples' own extremes."""
    return _with_zero(statistics.average_low, statistics.average_high)


def percentile(statistics: TensorStatistics) -> Range:
    """Return the range of 99.99 % of the values: as many are cut off below as above."""
    histogram, whole = statistics.histogram, minmax(statistics)
    allowed = statistics.values * (1 - _PERCENTILE) / 2
    counts = histogram.counts.copy()
    counts[-histogram.origin] += statistics.zeros
    below = np.cumsum(counts)
    kept = np.flatnonzero((below > allowed) & (below[-1] - below + counts > allowed))
    if not kept.size:
        return whole
    edges = histogram.edges
    return _inside(float(edges[kept[0]]), float(edges[kept[-1] + 1]), whole)


def mse(statistics: TensorStatistics) -> Range:
    """Return the range of the least expected squared error, each end shrunk on its own."""
    low, high = minmax(statistics)
    lows, highs = np.unique(low * _SHRINK), np.unique(high * _SHRINK)
    errors = _Errors(statistics).of(lows[:, None], highs[None, :])
    i, j = np.unravel_index(int(errors.argmin()), errors.shape)
    return float(lows[i]), float(highs[j])


def entropy(statistics: TensorStatistics) -> Range:
    """Return the range whose 128 levels of magnitude lose the least information (Kullback-Leibler divergence).

    After NVIDIA, "8-bit inference with TensorRT" (GTC 2017), for all candidate thresholds at once.
    """
    whole = minmax(statistics)
    counts = _magnitudes(statistics)
    used = int(np.flatnonzero(counts)[-1]) + 1 if counts.any() else 0
    ends = np.arange(_LEVELS, used, _ENTROPY_STRIDE)
    if not ends.size:
        return whole
    ends = np.append(ends, used)
    best = ends[int(_divergences(counts, ends).argmin())]
    threshold = float(best) * statistics.histogram.width
    return _inside(-threshold, threshold, whole)


RANGES: dict[str, RangeOf] = {
    "minmax": minmax,
    "moving_average": moving_average,
    "percentile": percentile,
    "mse": mse,
    "entropy": entropy,
}


def expected_error(statistics: TensorStatistics, low: float, high: float) -> float:
    """Return the expected squared error per value of 8 bits over ``low`` .. ``high``."""
    return float(_Errors(statistics).of(np.array(low), np.array(high)))


def choose(
    statistics: Mapping[str, TensorStatistics],
    outputs: Collection[str],
    methods: Sequence[str] = tuple(RANGES),
) -> dict[str, tuple[float, float, str]]:
    """Choose (low, high, method) for every tensor: the method with the least expected error among ``methods``.

    ``outputs`` are never clipped (see ``never_clipped``), nor are tensors with fewer than 1024 values per
    sample. Clipping has to gain 5 % on min-max, which always stands to choose.
    Raises RecipeError for an unknown method.
    """
    if unknown := sorted(set(methods) - RANGES.keys()):
        raise RecipeError(f"unknown calibration methods: {', '.join(unknown)}", f"Known: {', '.join(RANGES)}.")
    kept = set(outputs)
    chosen = {}
    for name, known in statistics.items():
        clippable = name not in kept and known.values_per_sample >= _FEW_VALUES
        method = _least(known, methods) if clippable else "minmax"
        chosen[name] = (*RANGES[method](known), method)
    return chosen


def never_clipped(graph: Graph) -> frozenset[str]:
    """Return the tensors no range may clip: outputs, what only decoding reads, probabilities and what moves them."""
    decoding = tail(graph)
    found = set(graph.outputs)
    for name in graph.floats:
        readers = graph.consumers.get(name, ())
        if readers and all(position in decoding for position in readers):
            found.add(name)
    for op in graph.ops:
        if op.kind in _GATES or (op.kind in MOVES and op.inputs and op.inputs[0] in found):
            found.update(op.outputs)
    return frozenset(found & graph.floats)


class _Errors:
    """Expected errors of any number of ranges at once, from running sums over the histogram."""

    def __init__(self, statistics: TensorStatistics) -> None:
        histogram = statistics.histogram
        counts, centres = histogram.counts.astype(np.float64), histogram.centres
        self.edges = histogram.edges
        self.values = max(statistics.values, 1)
        self.sums = [np.concatenate(([0.0], np.cumsum(counts * centres**power))) for power in (0, 1, 2)]

    def of(self, low: Array, high: Array) -> Array:
        """low, high: arrays that broadcast together."""
        from_bin = np.clip(np.searchsorted(self.edges, low, "left"), 0, BINS)
        to_bin = np.clip(np.searchsorted(self.edges, high, "right") - 1, 0, BINS)
        zeroth, first, second = self.sums
        below = second[from_bin] - 2 * low * first[from_bin] + low**2 * zeroth[from_bin]
        above = second[-1] - second[to_bin] - 2 * high * (first[-1] - first[to_bin])
        above = above + high**2 * (zeroth[-1] - zeroth[to_bin])
        rounding = ((high - low) / _STEPS) ** 2 / 12
        result: Array = (np.maximum(below, 0) + np.maximum(above, 0) + rounding * zeroth[-1]) / self.values
        return result


def _least(statistics: TensorStatistics, methods: Sequence[str]) -> str:
    measure = _Errors(statistics)
    errors = {
        method: float(measure.of(*(np.asarray(end) for end in RANGES[method](statistics))))
        for method in (*methods, "minmax")
    }
    best = min(errors, key=lambda method: errors[method])
    return best if errors[best] < _WORTH * errors["minmax"] else "minmax"


def _with_zero(low: float, high: float) -> Range:
    return min(low, 0.0), max(high, 0.0)


def _inside(low: float, high: float, whole: Range) -> Range:
    """Cut a range to what was seen, with 0 in it."""
    return _with_zero(max(low, whole[0]), min(high, whole[1]))


def _magnitudes(statistics: TensorStatistics) -> Array:
    """Return how many values have each magnitude, in bins of the histogram's width from 0."""
    histogram = statistics.histogram
    positive = histogram.counts[-histogram.origin :]
    negative = histogram.counts[: -histogram.origin][::-1]
    counts = np.zeros(max(len(positive), len(negative)))
    counts[: len(positive)] += positive
    counts[: len(negative)] += negative
    return counts


def _divergences(counts: Array, ends: npt.NDArray[np.int64]) -> Array:
    """Return, for every threshold (in bins), the divergence of what 128 levels below it make of the counts."""
    total = counts.sum()
    borders = ends[:, None] * np.arange(_LEVELS + 1) // _LEVELS
    sums, filled = (np.concatenate(([0.0], np.cumsum(part))) for part in (counts, counts > 0))
    level = sums[borders[:, 1:]] - sums[borders[:, :-1]]
    bins = filled[borders[:, 1:]] - filled[borders[:, :-1]]
    inside = sums[ends]
    last = counts[ends - 1]
    clipped = last + total - inside  # everything above the threshold falls into the last bin below it
    own = np.concatenate(([0.0], np.cumsum(_times_log(counts))))[ends - 1] + _times_log(clipped)
    spread = np.log(np.divide(level, bins, out=np.ones_like(level), where=level > 0))
    last_spread = np.where(last > 0, spread[:, -1], np.log(_EMPTY))
    cross = (level * spread).sum(axis=1) + (clipped - last) * last_spread
    result: Array = (own - cross - total * np.log(total / np.maximum(inside, 1))) / total
    return np.where(inside > 0, result, np.inf)


def _times_log(values: Array) -> Array:
    result: Array = values * np.log(np.where(values > 0, values, 1.0))
    return result
