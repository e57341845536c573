"""What a search can start from: the float model as it came, with other ranges, and repaired."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgekit.quantize import calibrate
from edgekit.quantize.choose_ranges import choose, minmax, never_clipped
from edgekit.quantize.dead_channels import guard
from edgekit.quantize.equalize import equalize
from edgekit.quantize.graph import read_graph
from edgekit.quantize.observers import TensorStatistics, warn_small
from edgekit.quantize.plan import Ranges
from edgekit.quantize.useful_ranges import narrowed, useful_limits
from edgekit.search.problem import Base

Sample = dict[str, npt.NDArray[Any]]


class Bases:
    """Makes each base when it is asked for. ``samples`` opens the calibration samples anew."""

    def __init__(self, model: Path, format: str, samples: Callable[[], Iterable[Sample]], folder: Path) -> None:
        self.model, self.format, self.samples, self.folder = model, format, samples, folder
        self.statistics = calibrate.observe(model, format, samples())
        self.notes = warn_small(self.statistics)

    def plain(self) -> Base:
        """Return the model with the smallest and largest value seen; dead channels get a scale for their bias."""
        ranges = {name: minmax(known) for name, known in self.statistics.items()}
        return Base("full range", self._guarded(self.model, ranges), read_graph(self.model, self.format), ranges)

    def clipped(self) -> Base:
        """Return the same with the range of least expected error for every tensor that may be clipped."""
        return self._clipped("clipped ranges", self.model, self.statistics)

    def repaired(self) -> Base | None:
        """Return the model with equalized channels, or None where no pair of layers allows it."""
        content, done = equalize(self.model, self.format, self.statistics)
        if not done:
            return None
        path = self.folder / f"equalized.{self.format}"
        path.write_bytes(content)
        worst = max(done, key=lambda item: item.uneven_before)
        self.notes.append(
            f"channels of {len(done)} tensors can be equalized; the most uneven, {worst.tensor.split(';')[0]},"
            f" from {worst.uneven_before:.0f} to {worst.uneven_after:.1f} times its typical channel"
        )
        return self._clipped("equalized channels", path, calibrate.observe(path, self.format, self.samples()))

    def clean(self) -> None:
        """Remove the working files."""
        for name in ("equalized", "guarded", "refined"):
            for path in self.folder.glob(f"{name}*.{self.format}"):
                path.unlink()

    def _clipped(self, name: str, path: Path, statistics: dict[str, TensorStatistics]) -> Base:
        graph = read_graph(path, self.format)
        chosen = choose(statistics, never_clipped(graph))
        ranges = {tensor: (low, high) for tensor, (low, high, _) in chosen.items()}
        for tensor, limits in useful_limits(graph).items():
            if tensor in ranges:
                ranges[tensor] = narrowed(minmax(statistics[tensor]), limits)
        return Base(name, self._guarded(path, ranges), graph, ranges)

    def _guarded(self, path: Path, ranges: Ranges) -> Path:
        if self.format != "tflite":
            return path
        content, done = guard(path, ranges)
        if not done:
            return path
        count = sum(item.channels for item in done)
        note = f"{count} dead channels in {len(done)} layers got a weight scale that their bias fits"
        if note not in self.notes:
            self.notes.append(note)
        guarded = self.folder / f"guarded-{path.name}"
        guarded.write_bytes(content)
        return guarded
