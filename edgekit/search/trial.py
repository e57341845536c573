"""One trial: emit a plan, run the file in its runtime on the held-apart samples, in a process that may die."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit import arrays
from edgekit.convert import onnx_quantized, tflite_quantized
from edgekit.errors import StageError, UnsupportedError
from edgekit.lifeline import die_with_parent
from edgekit.quantize.plan import Plan
from edgekit.runtimes import open_model

Arrays = dict[str, npt.NDArray[Any]]
EMITTERS: dict[str, Callable[[bytes, Plan], bytes]] = {"tflite": tflite_quantized.emit, "onnx": onnx_quantized.emit}

_TIMED_MS = 25.0  # of calls, at least


@dataclass(frozen=True)
class Trial:
    """What a plan came to: one dict of outputs per sample, and the size in bytes; or why it does not run.

    ``fastest_ms``: of all its calls; enough to rank plans, the profile stage measures what is reported.
    """

    outputs: tuple[Arrays, ...]
    size_bytes: int
    refusal: str = ""
    fastest_ms: float = 0.0


class Trials:
    """Runs plans on the same samples, one after another. Use as a context: its process ends with it."""

    def __init__(self, format: str, samples: list[Arrays], folder: Path) -> None:
        self.format = format
        self._samples = folder / "held.npz"
        self._candidate = folder / f"candidate.{format}"
        arrays.save(self._samples, _packed(samples))
        self._pool = _pool()

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self, model: Path, plan: Plan | None, limit: int | None = None) -> Trial:
        """Try ``plan`` on a float model (None: the model itself) with the first ``limit`` samples.

        A file the runtime refuses, or that kills its process, is a Trial with a refusal, not an error.
        """
        arguments = (model, self.format, plan, self._samples, self._candidate, limit)
        try:
            return self._pool.submit(_try, *arguments).result()
        except BrokenProcessPool:
            self._pool = _pool()
            return Trial((), 0, "the runtime's process died: the delegate aborts on this file")


def _pool() -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, context, initializer=die_with_parent, initargs=(os.getpid(),))


def _try(model: Path, format: str, plan: Plan | None, samples: Path, candidate: Path, limit: int | None) -> Trial:
    path = model
    try:
        if plan is not None:
            candidate.write_bytes(EMITTERS[format](model.read_bytes(), plan))
            path = candidate
        session = open_model(path, format)
        held = _unpacked(samples, limit)
        timed = [_outputs(session, sample) for sample in held]
        fastest_ms = _fastest_ms(session, held, [ms for _, ms in timed])
    except (StageError, UnsupportedError) as error:
        return Trial((), 0, error.message)
    outputs = tuple(made for made, _ in timed)
    for made in outputs:
        for name, array in made.items():
            if not np.isfinite(array).all():
                return Trial((), path.stat().st_size, f"output {name!r} is NaN or infinite")
    return Trial(outputs, path.stat().st_size, fastest_ms=fastest_ms)


def _outputs(session: Any, sample: Arrays) -> tuple[Arrays, float]:
    session.set_inputs([sample[spec["name"]] for spec in session.inputs])
    began = time.perf_counter_ns()
    session.invoke()
    took_ms = (time.perf_counter_ns() - began) / 1e6
    arrays = session.outputs_now()
    made = {spec["name"]: np.array(array) for spec, array in zip(session.outputs, arrays, strict=True)}
    return made, took_ms


def _fastest_ms(session: Any, held: list[Arrays], known: list[float]) -> float:
    """Call a fast file again: among a few calls of microseconds none may be undisturbed."""
    fastest, spent = min(known), sum(known)
    while spent < _TIMED_MS:
        again = [_outputs(session, sample)[1] for sample in held]
        fastest, spent = min(fastest, *again), spent + sum(again)
    return fastest


def _packed(samples: list[Arrays]) -> Arrays:
    return {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}


def _unpacked(path: Path, limit: int | None) -> list[Arrays]:
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name][:limit] for name in stored.files}
    count = len(next(iter(arrays.values())))
    return [{name: array[i : i + 1] for name, array in arrays.items()} for i in range(count)]
