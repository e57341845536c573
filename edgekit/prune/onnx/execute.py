"""Run ONNX models in ONNX Runtime, sample by sample, as their fixed batch of one asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from edgekit.errors import StageError
from edgekit.prune.recovery.detections import find_detections
from edgekit.runtimes.ort import session_options

Arrays = dict[str, npt.NDArray[Any]]


class Program:
    """A loaded model that answers by name."""

    def __init__(self, content: bytes, *, threads: int = 1) -> None:
        try:
            self._session = onnxruntime.InferenceSession(
                content, sess_options=session_options(threads), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own errors share no base class
            raise StageError(f"ONNX Runtime cannot load the network: {error}") from error
        self.inputs = tuple(item.name for item in self._session.get_inputs())
        self.outputs = tuple(item.name for item in self._session.get_outputs())

    def __call__(self, inputs: Arrays) -> Arrays:
        try:
            found = self._session.run(list(self.outputs), {name: inputs[name] for name in self.inputs})
        except Exception as error:  # the same
            raise StageError(f"ONNX Runtime cannot run the network: {error}") from error
        return dict(zip(self.outputs, found, strict=True))


def each(inputs: Arrays) -> Iterator[Arrays]:
    """Yield the samples one by one, each with a batch axis of one."""
    for number in range(len(next(iter(inputs.values())))):
        yield {name: array[number : number + 1] for name, array in inputs.items()}


def answers(content: bytes, inputs: Arrays) -> list[Arrays]:
    """Return the outputs of a model for each sample."""
    program = Program(content)
    return [program(sample) for sample in each(inputs)]


def difference(expected: list[Arrays], found: list[Arrays]) -> float:
    """Return the largest absolute difference over each output's own scale; infinite where shapes differ."""
    worst = 0.0
    for name in expected[0]:
        pairs = [(one[name], other[name]) for one, other in zip(expected, found, strict=True)]
        if any(one.shape != other.shape for one, other in pairs):
            return float("inf")
        scale = max(float(np.max(np.abs(one), initial=0.0)) for one, _ in pairs) or 1.0
        error = max(
            float(np.max(np.abs(one.astype(np.float64) - other), initial=0.0)) for one, other in pairs
        )  # fmt: skip
        worst = max(worst, error / scale if np.isfinite(error) else float("inf"))
    return worst


def distance(expected: Sequence[Arrays], found: Sequence[Arrays]) -> float:
    """Return the squared error over the variance, the mean over all outputs of floating point.

    Boxes count by the scores beside them: where nothing is, a detector's boxes mean nothing.
    """
    errors = []
    pairs = find_detections({name: array.shape for name, array in expected[0].items()})
    for name, first in expected[0].items():
        if not np.issubdtype(first.dtype, np.floating):
            continue
        wanted = np.stack([one[name] for one in expected]).astype(np.float64)
        given = np.stack([one[name] for one in found]).astype(np.float64)
        weight = np.ones(1)
        if name in pairs:
            weight = np.abs(np.stack([one[pairs[name]] for one in expected])).max(axis=-1, keepdims=True)
        spread = float(np.sum(weight * (wanted - wanted.mean(axis=0)) ** 2))
        errors.append(float(np.sum(weight * (wanted - given) ** 2)) / (spread or 1.0))
    return float(np.mean(errors)) if errors else 0.0
