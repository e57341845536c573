"""Statistics of raw latencies. Nanoseconds are integers as read from the clock; figures outside are ms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from statistics import fmean, stdev
from typing import NamedTuple

from edgekit.errors import StageError
from edgekit.report.schema import Latency

UNSTABLE_SPREAD = 1.3  # p90 / p50
UNSTABLE_CV = 0.10
THROTTLED_RATIO = 1.1  # p50 of the last quarter / p50 of the first
BUSY_LOAD_PER_CORE = 0.3
_NS_PER_MS = 1e6
_FEWEST_PER_QUARTER = 3


@dataclass(frozen=True)
class Conditions:
    """What must be the same for two latencies to be compared."""

    place: str
    machine: str
    runtime: str
    runtime_version: str
    threads: int


@dataclass(frozen=True)
class Measurement:
    """Latencies of one artifact, in the order taken; a sample is the mean of ``calls_per_sample`` calls.

    Raises ValueError without samples or with one that is not positive.
    """

    conditions: Conditions
    samples_ns: tuple[int, ...]
    calls_per_sample: int = 1

    def __post_init__(self) -> None:
        if not self.samples_ns or min(self.samples_ns) <= 0:
            raise ValueError("a measurement needs samples, all above zero")

    @classmethod
    def of(cls, latency: Latency) -> Measurement:
        """Read a measurement back from a report."""
        conditions = Conditions(
            latency.place, latency.machine, latency.runtime, latency.runtime_version, latency.threads
        )
        return cls(conditions, tuple(latency.samples_ns), latency.calls_per_sample)

    @property
    def min_ms(self) -> float:
        return min(self.samples_ns) / _NS_PER_MS

    def percentile_ms(self, percent: float) -> float:
        return percentile(self.samples_ns, percent) / _NS_PER_MS

    def flags(self) -> list[str]:
        """Return ``unstable`` and ``throttled`` where the samples say so."""
        found = {"unstable": is_unstable(self.samples_ns), "throttled": is_throttled(self.samples_ns)}
        return [flag for flag, raised in found.items() if raised]

    def combine(self, other: Measurement) -> Measurement:
        """Append later samples of the same artifact. Raises StageError for different conditions."""
        _require_same(self.conditions, other.conditions)
        if self.calls_per_sample != other.calls_per_sample:
            raise StageError("samples of different lengths cannot be combined")
        return Measurement(self.conditions, self.samples_ns + other.samples_ns, self.calls_per_sample)


class Speedup(NamedTuple):
    """How many times faster, by the fastest call and by the median; above 1 is faster."""

    min: float
    p50: float


def speedup(before: Measurement, after: Measurement) -> Speedup:
    """Compare two artifacts measured together. Raises StageError for different conditions."""
    _require_same(before.conditions, after.conditions)
    return Speedup(before.min_ms / after.min_ms, before.percentile_ms(50) / after.percentile_ms(50))


def percentile(samples: Sequence[int], percent: float) -> float:
    """Interpolate linearly between order statistics: type 7 of Hyndman and Fan (1996), numpy's default."""
    ordered = sorted(samples)
    position = (len(ordered) - 1) * percent / 100
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def variation(samples: Sequence[int]) -> float:
    """Return the coefficient of variation: standard deviation / mean; 0 for a single sample."""
    return stdev(samples) / fmean(samples) if len(samples) > 1 else 0.0


def is_unstable(samples: Sequence[int]) -> bool:
    """Say whether the spread is too wide for a median to mean much."""
    spread = percentile(samples, 90) / percentile(samples, 50)
    return spread > UNSTABLE_SPREAD or variation(samples) > UNSTABLE_CV


def is_throttled(samples: Sequence[int]) -> bool:
    """Say whether calls got slower over time, as when a chip gets hot; False with too few samples to tell."""
    quarter = len(samples) // 4
    if quarter < _FEWEST_PER_QUARTER:
        return False
    return percentile(samples[-quarter:], 50) > THROTTLED_RATIO * percentile(samples[:quarter], 50)


def is_busy(load: float | None, cores: int) -> bool:
    """Say whether others used the machine; ``load`` is how many cores they took, None where unknown."""
    return load is not None and load / cores > BUSY_LOAD_PER_CORE


def load_of_others(
    before: Sequence[Mapping[str, float | None]], after: Sequence[Mapping[str, float | None]]
) -> float | None:
    """Return how many cores worked for others between two ``usage`` replies of every agent.

    The load average would count what edgekit itself did in the minute before. None where the system keeps no
    count of busy time.
    """
    start, end = before[0], after[0]
    if start["busy_s"] is None or end["busy_s"] is None:
        return None
    own_s = sum((a["own_s"] or 0) - (b["own_s"] or 0) for b, a in zip(before, after, strict=True))
    wall_s = (end["clock_s"] or 0) - (start["clock_s"] or 0)
    return max(0.0, (end["busy_s"] - start["busy_s"] - own_s) / wall_s) if wall_s > 0 else None


def _require_same(one: Conditions, other: Conditions) -> None:
    differences = [
        f"{field.name} {getattr(one, field.name)!r} and {getattr(other, field.name)!r}"
        for field in fields(Conditions)
        if getattr(one, field.name) != getattr(other, field.name)
    ]
    if differences:
        raise StageError(
            f"latencies taken under different conditions cannot be compared: {'; '.join(differences)}",
            "measure both again, together",
        )
