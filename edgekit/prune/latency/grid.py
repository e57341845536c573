"""Which widths of each op are worth timing: those that pruning can reach, closer together where they are small."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from edgekit.prune.latency.shapes import Op, OpShape

_FINEST = 8  # channels; no kernel of LiteRT or ONNX Runtime has a finer tile that pays in a whole network
_FINE_UP_TO = ((64, 8), (128, 16))  # widths up to the first are timed in steps of the second
_COARSE = 32
_TALL = 2.5  # widths in that vary by more than this get a point in the middle: time grows evenly with them


@dataclass(frozen=True, order=True)
class Point:
    """One op at one pair of widths; ``channels_in`` is 0 where the kind does not depend on it."""

    shape: OpShape
    channels_in: int
    channels_out: int

    @property
    def key(self) -> str:
        return f"{self.shape.key} {self.channels_in}>{self.channels_out}"


@dataclass(frozen=True)
class Grid:
    """The widths in and out at which one op is timed, both rising."""

    shape: OpShape
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def tiled(self) -> bool:
        """Say whether the time jumps with the channels that come out; else it grows evenly with them."""
        return self.shape.wide or self.shape.kind == "depthwise"

    def points(self) -> list[Point]:
        return [Point(self.shape, into, out) for into in self.inputs for out in self.outputs]


def grid_of(op: Op, largest_cut: float) -> Grid | None:
    """Return where to time an op of which at most ``largest_cut`` (0..1) of the channels may go."""
    if op.shape is None:
        return None
    outputs = _stairs(op.outputs, largest_cut)
    if op.shape.wide:
        return Grid(op.shape, _ends(_stairs(op.inputs, largest_cut)), outputs)
    grid = Grid(op.shape, (0,), outputs)
    return grid if grid.tiled else Grid(op.shape, (0,), _ends(outputs))


def all_points(grids: Iterable[Grid | None]) -> list[Point]:
    return sorted({point for grid in grids if grid is not None for point in grid.points()})


def _stairs(units: Iterable[int], largest_cut: float) -> tuple[int, ...]:
    """Return the full width and the multiples of 8 below it, thinned out, down to the least reachable one."""
    full = list(units)
    may_go = sum(unit >= 0 for unit in full)
    least = max(math.ceil((len(full) - largest_cut * may_go) / _FINEST), 1) * _FINEST
    found = {len(full)}
    width = len(full) // _FINEST * _FINEST
    while width >= least and may_go:
        found.add(width)
        step = next((step for limit, step in _FINE_UP_TO if width <= limit), _COARSE)
        width = (width - 1) // step * step
    return tuple(sorted(found))


def _ends(widths: tuple[int, ...]) -> tuple[int, ...]:
    low, high = widths[0], widths[-1]
    middle = [min(widths, key=lambda width: abs(width - (low + high) / 2))] if high > _TALL * low else []
    return tuple(sorted({low, *middle, high}))
