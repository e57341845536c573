"""Time two small Keras models in LiteRT on this host, in turns."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edgekit.convert import float_graph, tflite
from edgekit.devices import open_device
from edgekit.profile.latency import Job, measure
from edgekit.profile.schedule import Settings

# A layer takes microseconds to a few milliseconds: this is about one second a pair, and only the minima count.
_SETTINGS = Settings(samples=100, seconds=0.3, limit_s=1.0, warmup_s=0.1, rounds=15, ops_runs=0)
_INPUTS = 4  # int8 ranges of random inputs: good for timing alone


class PairTimer:
    """Times pairs of models with ``in_litert`` and remembers them by their shapes in a file.

    A stage that was killed thus decides on going on as it had decided before.
    """

    def __init__(self, file: Path, precisions: Sequence[str]) -> None:
        self.file, self.precisions = file, tuple(precisions)
        self.known: dict[str, tuple[float, float]] = {}
        if file.is_file():
            self.known = {key: (one, other) for key, (one, other) in json.loads(file.read_text()).items()}

    def __call__(self, one: keras.Model, other: keras.Model) -> tuple[float, float]:
        key = f"{_shapes(one)} {_shapes(other)} {' '.join(self.precisions)}"
        if key not in self.known:
            self.known[key] = in_litert(one, other, self.precisions)
            unfinished = self.file.with_suffix(".unfinished")
            unfinished.write_text(json.dumps(self.known))
            unfinished.replace(self.file)
        return self.known[key]


def _shapes(model: keras.Model) -> str:
    """Name everything that decides how long a chain of weighted layers takes."""
    fields = ("strides", "padding", "dilation_rate", "activation")
    parts = [f"{tuple(model.inputs[0].shape[1:])}"]
    for layer in model.layers:
        if layer.weights:
            config = layer.get_config()
            chosen = ",".join(str(config[field]) for field in fields if field in config)
            parts.append(f"{type(layer).__name__}{tuple(layer.kernel.shape)}({chosen})")
    return ">".join(parts)


def in_litert(
    one: keras.Model, other: keras.Model, precisions: Sequence[str] = ("float32",), threads: int = 1
) -> tuple[float, float]:
    """Return the fastest calls of both in milliseconds, in the precision in which ``other`` gains least.

    ``precisions``: float32 and int8. All files are timed in interleaved visits, one input of one sample each.
    """
    models = {"one": one, "other": other}
    with tempfile.TemporaryDirectory(prefix="edgekit-") as name, open_device("local") as device:
        jobs = [job for label, model in models.items() for job in _jobs(model, label, Path(name), precisions)]
        times = measure(jobs, None, threads=threads, device=device, settings=_SETTINGS)
    pairs = [(times[f"one-{item}"].min_ms, times[f"other-{item}"].min_ms) for item in precisions]
    return max(pairs, key=lambda pair: pair[1] / pair[0])


def _jobs(model: keras.Model, label: str, folder: Path, precisions: Sequence[str]) -> Iterator[Job]:
    saved = folder / label
    float_graph.export_keras(model, saved)
    for precision in precisions:
        path = folder / f"{label}-{precision}.tflite"
        path.write_bytes(tflite.float32(saved) if precision == "float32" else _int8(saved, model))
        yield Job(path.stem, path, "tflite")


def _int8(saved: Path, model: keras.Model) -> bytes:
    generator = np.random.default_rng(0)
    shape = (1, *(int(size) for size in model.inputs[0].shape[1:]))

    def inputs() -> Iterator[list[Any]]:
        for _ in range(_INPUTS):
            yield [generator.random(shape, np.float32)]

    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = inputs
    return bytes(converter.convert())
