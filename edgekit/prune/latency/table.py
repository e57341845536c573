"""Measured times of ops, and what lies between them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from edgekit.prune.latency.grid import Grid, Point

STEPS = (8, 16, 32)
_PAYS = 0.25  # of what a whole step saves: half as many channels save at least half as much of their share


@dataclass(frozen=True)
class Place:
    """Where and in what ops were timed."""

    device: str
    cpu: str
    runtime: str
    format: str
    precision: str
    threads: int

    @property
    def title(self) -> str:
        threads = f"{self.threads} thread" + ("s" if self.threads > 1 else "")
        return f"{self.runtime}, {self.precision}, {threads}, {self.cpu}"


@dataclass(frozen=True)
class Table:
    """Times by ``Point.key`` in nanoseconds, at one place."""

    place: Place
    times_ns: Mapping[str, int]

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Table:
        return cls(Place(**written["place"]), written["times_ns"])

    def to_json(self) -> dict[str, Any]:
        return {"place": asdict(self.place), "times_ns": dict(self.times_ns)}

    def has(self, grid: Grid) -> bool:
        return all(point.key in self.times_ns for point in grid.points())

    def time_ns(self, grid: Grid, channels_in: int, channels_out: int) -> float:
        """Return the time at any widths: evenly between widths in, the next wider one's for widths out.

        A kernel pads its output channels to its tile, so a width between two measured ones costs what the wider does.
        """
        if channels_out == 0 or (channels_in == 0 and grid.shape.wide):
            return 0.0
        outputs = grid.outputs
        if not grid.tiled:
            times = [float(self.times_ns[Point(grid.shape, 0, out).key]) for out in outputs]
            return _between(outputs, times, channels_out)
        out = outputs[min(bisect_left(outputs, channels_out), len(outputs) - 1)]
        scale = channels_out / out if channels_out < outputs[0] or channels_out > outputs[-1] else 1.0
        times = [float(self.times_ns[Point(grid.shape, into, out).key]) for into in grid.inputs]
        return scale * _between(grid.inputs, times, channels_in if grid.shape.wide else 0)

    def pays(self, grids: Sequence[Grid]) -> dict[int, float]:
        """Return for each step the median share that its odd multiples save of what the step above saves.

        0.5 is in proportion to the channels, 0 nothing: then widths should be multiples of twice the step.
        """
        found: dict[int, list[float]] = {step: [] for step in STEPS[:-1]}
        for grid in grids:
            widths = set(grid.outputs)
            for step in found:
                for width in (width for width in widths if width % (2 * step) == step):
                    below, above = width - step, width + step
                    if {below, above} <= widths:
                        low, here, high = (self.time_ns(grid, grid.inputs[-1], w) for w in (below, width, above))
                        if high > low > 0:
                            found[step].append((high - here) / (high - low))
        return {step: median(shares) for step, shares in found.items() if shares}

    def step(self, grids: Sequence[Grid]) -> int:
        """Return the least step whose odd multiples buy time; 16 where the model is too narrow to tell."""
        pays = self.pays([grid for grid in grids if grid.shape.wide])
        if not pays:
            return 16
        return next((step for step in STEPS[:-1] if pays.get(step, 0.0) >= _PAYS), STEPS[-1])


def _between(widths: Sequence[int], times: Sequence[float], wanted: int) -> float:
    """Interpolate, and beyond the ends go on in proportion."""
    if len(widths) == 1 or wanted >= widths[-1]:
        return times[-1] * (wanted / widths[-1] if widths[-1] else 1.0)
    for (low, low_time), (high, high_time) in pairwise(zip(widths, times, strict=True)):
        if wanted <= high:
            return max(low_time + (high_time - low_time) * (wanted - low) / (high - low), 0.0)
    raise AssertionError(f"{wanted} is not within {widths}")
