"""Read what TFLite's ``benchmark_model`` prints: for phones, which have no Python.

Format: tensorflow/lite/tools/benchmark/benchmark_model.cc; all its times are microseconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_COUNT = re.compile(r"\bcount=(\d+)((?: \w+=[-+.\deE]+)+)")
_SUMMARY = re.compile(r"Inference timings in us: Init: ([\d.eE+]+), First inference: ([\d.eE+]+)")
_DELEGATED = re.compile(r"Replacing (\d+) out of (\d+) node\(s\) with delegate")


@dataclass(frozen=True)
class BenchmarkRun:
    """One run of the program. ``figures_us`` holds what it gave of first, curr, min, max, avg, std, p5, median, p95."""

    init_us: float
    first_us: float
    count: int
    figures_us: dict[str, float]

    @property
    def mean_us(self) -> float:
        """The mean of the timed calls; of a single call it prints only ``curr``."""
        return self.figures_us.get("avg", self.figures_us["curr"])

    @property
    def fastest_us(self) -> float:
        return self.figures_us.get("min", self.figures_us["curr"])


def parse(text: str) -> list[BenchmarkRun]:
    """Return every complete run: its last ``count=`` line (the one before is the warm-up's) and its summary."""
    runs: list[BenchmarkRun] = []
    last: tuple[int, dict[str, float]] | None = None
    for line in text.splitlines():
        if found := _COUNT.search(line):
            pairs = (pair.split("=") for pair in found[2].split())
            last = int(found[1]), {name: float(value) for name, value in pairs}
        elif (found := _SUMMARY.search(line)) and last:
            runs.append(BenchmarkRun(float(found[1]), float(found[2]), *last))
            last = None
    return runs


def delegated(text: str) -> tuple[int, int] | None:
    """Return how many of how many nodes a delegate took, None where nothing was said of it."""
    found = _DELEGATED.search(text)
    return (int(found[1]), int(found[2])) if found else None
