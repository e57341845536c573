"""Time single ops on a device: one agent loads one small file after the other, in several rounds."""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgekit.devices import Device, Session
from edgekit.errors import CrashedError, StageError, UnsupportedError
from edgekit.progress import Progress
from edgekit.prune.latency import onnx_model, tflite_model
from edgekit.prune.latency.grid import Point
from edgekit.prune.latency.shapes import OpShape

_SAMPLE_NS = 100_000  # a shorter call is timed several times in one go
_SAMPLES = 4
_ROUNDS = 5
_FIRST_SECONDS = 30.0  # the first answer waits for the agent's imports
_PATIENCE_S = 60.0
_NOTHING = Point(OpShape("add", (1, 1)), 0, 8)  # what it takes to call the runtime at all


class Writer(Protocol):
    """What makes the file of one op."""

    def __call__(self, shape: OpShape, channels_in: int, channels_out: int, int8: bool) -> bytes: ...


WRITERS: dict[str, Writer] = {"tflite": tflite_model.write, "onnx": onnx_model.write}


@dataclass
class Timed:
    """Nanoseconds of each point, and what went wrong with others."""

    points: dict[Point, int] = field(default_factory=dict)
    refused: dict[Point, str] = field(default_factory=dict)


def measure(
    points: Sequence[Point],
    *,
    device: Device,
    format: str,
    int8: bool,
    threads: int,
    seconds: float,
    progress: Progress | None = None,
) -> Timed:
    """Return the least time of each op alone. Rounds end when ``seconds`` are over, the first in any case.

    An op that the runtime refuses is left out and named. Raises DeviceError when the device is lost.
    """
    tell: Progress = progress or (lambda done, what: None)
    entries = {_entry(point) for point in points if format == "onnx" and point.shape.kind in onnx_model.BETWEEN}
    wanted = sorted({*points, *entries, _NOTHING})
    timed = Timed()
    generator = random.Random(0)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        bench = _Bench(device, Path(folder), format, int8, threads)
        try:
            for turn in range(_ROUNDS):
                order = [point for point in wanted if point not in timed.refused]
                generator.shuffle(order)
                for index, point in enumerate(order):
                    if turn and time.monotonic() - start > seconds:
                        break
                    tell((turn + index / len(order)) / _ROUNDS, f"timing {point.shape.kind} {point.channels_out}")
                    bench.visit(point, timed)
        finally:
            bench.close()
    net = {point: max(spent - _share(point, timed.points, entries), 0) for point, spent in timed.points.items()}
    return Timed({point: net[point] for point in points if point in net}, timed.refused)


def _entry(point: Point) -> Point:
    width = point.channels_in if point.shape.kind == "conv" else point.channels_out
    return Point(OpShape("entry", point.shape.size), 0, width)


def _share(point: Point, times: dict[Point, int], entries: set[Point]) -> int:
    """Return what of a point's time is not its op's: the call, or the entry before it with its call."""
    alone = times.get(_NOTHING, 0)
    return times.get(_entry(point), alone) if entries and point.shape.kind in onnx_model.BETWEEN else alone


class _Bench:
    """An agent that is started anew where an op kills it."""

    def __init__(self, device: Device, folder: Path, format: str, int8: bool, threads: int) -> None:
        self._device, self._folder = device, folder
        self._format, self._int8, self._threads = format, int8, threads
        self._session: Session | None = None
        self._files: dict[Point, Path] = {}

    def visit(self, point: Point, timed: Timed) -> None:
        try:
            spent = self._time(point)
        except (StageError, UnsupportedError) as error:
            timed.refused[point] = error.message
        except CrashedError as error:
            timed.refused[point] = error.message
            self.close()
        else:
            timed.points[point] = min(spent, timed.points.get(point, spent))

    def close(self) -> None:
        if self._session is not None:
            self._session.__exit__(None, None, None)
            self._session = None

    def _time(self, point: Point) -> int:
        if self._session is None:
            self._session = self._device.connect("micro-benchmark").__enter__()
        session = self._session
        session.ask(
            "load", _FIRST_SECONDS + _PATIENCE_S,
            path=self._file(point), format=self._format, threads=self._threads, inputs=None, seed=0,
        )  # fmt: skip
        fastest = session.ask("warmup", _PATIENCE_S, calls=2, seconds=0.0)["fastest_ns"]
        calls = math.ceil(_SAMPLE_NS / max(fastest, 1))
        reply = session.ask(
            "group", _PATIENCE_S, samples=_SAMPLES, calls_per_sample=calls, lead_in=0, limit_s=_PATIENCE_S
        )
        return int(min(reply["samples_ns"]))

    def _file(self, point: Point) -> Path:
        if point not in self._files:
            path = self._folder / f"{len(self._files)}.{self._format}"
            path.write_bytes(WRITERS[self._format](point.shape, point.channels_in, point.channels_out, self._int8))
            self._files[point] = path
        return self._files[point]
