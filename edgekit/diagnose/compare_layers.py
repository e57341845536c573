"""Run the float model and the artifact side by side and keep figures per tensor; memory is flat in the samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.diagnose.execute import Runner, Sample, as_input, open_runner
from edgekit.diagnose.match_layers import match, value_of
from edgekit.diagnose.quantized_file import Quantization, QuantizedFile
from edgekit.diagnose.schema import Layer
from edgekit.errors import StageError
from edgekit.progress import Progress
from edgekit.quantize.graph import Graph

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
CHANNEL_AXIS = {"tflite": -1, "onnx": 1}
_DEAD = 1e-6  # of the largest channel: a channel that never fires has no say in how uneven the others are
_BINS = 256


class TensorFigures:
    """Running sums of one float tensor against its counterpart. ``form``: the artifact's int8 form of it.

    ``not_finite`` counts the samples on which either side holds NaN or infinity; they add to nothing else.
    """

    def __init__(self, form: Quantization | None, axis: int) -> None:
        self.form, self.axis = form, axis
        self.low, self.high = np.inf, -np.inf
        self.signal = self.noise = self.product = self.energy = 0.0
        self.values = 0
        self.below = self.above = 0
        self.not_finite = {"float": 0, "artifact": 0}
        self.histogram = np.zeros(_BINS, np.int64)
        self.channels: Floats = np.zeros(0)

    def add(self, reference: Array, found: Array | None) -> None:
        """Add one sample: both arrays hold the values they stand for, in the same shape.

        ``found`` is None where the artifact does not run: then only its ranges are looked at.
        """
        right = reference.astype(np.float32, copy=False)
        got = right if found is None else found.astype(np.float32, copy=False)
        lows, highs = self._extremes(right)
        low, high = float(lows.min()), float(highs.max())  # NaN, if there is one
        bad = {"float": not np.isfinite([low, high]).all(), "artifact": not np.isfinite([got.min(), got.max()]).all()}
        if any(bad.values()):
            self.not_finite = {side: count + bad[side] for side, count in self.not_finite.items()}
            return
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.signal += _dot(right, right)
        self.energy += _dot(got, got)
        self.product += _dot(right, got)
        self.noise += _dot(right - got, right - got)
        self.values += right.size
        if right.ndim > 1:
            peaks = np.maximum(np.abs(lows), np.abs(highs)).astype(np.float64)
            self.channels = np.maximum(self.channels, peaks) if len(self.channels) else peaks
        if self.form is not None and self.form.per_tensor:
            self._count_codes(right)

    def _extremes(self, values: Array) -> tuple[Array, Array]:
        """Return the smallest and largest value of each channel, or of all where there are no channels."""
        axis = self.axis % max(values.ndim, 1)
        others = tuple(i for i in range(values.ndim) if i != axis) if values.ndim > 1 else None
        return np.asarray(values.min(axis=others)), np.asarray(values.max(axis=others))

    def _count_codes(self, values: Array) -> None:
        assert self.form is not None
        low, high = self.form.range
        step = float(self.form.scale[0])
        share = _BINS / (round((high - low) / step) + 1)  # of a bin per code: 1 for 8 bits
        bins = values * np.float32(share / step)
        bins += np.float32((0.5 - low / step) * share + 1)  # bin 0 takes what is below, the last what is above
        np.clip(bins, 0, _BINS + 1, out=bins)
        counts = np.bincount(bins.astype(np.int16).reshape(-1), minlength=_BINS + 2)
        self.below += int(counts[0])
        self.above += int(counts[-1])
        self.histogram += counts[1:-1]

    def quantile_range(self, share: float) -> tuple[float, float] | None:
        """Return the range, to 1/256 of the artifact's, that holds ``share`` of the values (half left out per end)."""
        count = self.histogram.sum()
        if self.form is None or not count:
            return None
        low, high = self.form.range
        step = (high - low) / _BINS
        total = np.cumsum(self.histogram) / count
        first = int(np.searchsorted(total, (1 - share) / 2, side="right"))
        last = int(np.searchsorted(total, 1 - (1 - share) / 2))
        return min(0.0, low + first * step), max(0.0, low + (min(last, _BINS - 1) + 1) * step)

    @property
    def alive(self) -> Floats:
        """Return the magnitudes of the channels that fire at all, largest first."""
        peak = self.channels.max(initial=0.0)
        return np.sort(self.channels[self.channels > _DEAD * peak])[::-1]

    @property
    def unevenness(self) -> float | None:
        alive = self.alive
        if len(alive) < 2:
            return None
        return float(alive[0] / np.exp(np.log(alive).mean()))


def _dot(left: Array, right: Array) -> float:
    return float(np.dot(left.reshape(-1), right.reshape(-1)))


@dataclass
class Comparison:
    """What one pass over the samples showed. ``pairs``: float tensor -> tensor of the artifact.

    ``outputs`` and ``reference`` hold the outputs of every sample, by the float model's names: they are small.
    ``shapes`` are those of every float tensor. Where the artifact does not run, ``outputs`` is empty.
    """

    graph: Graph
    artifact: QuantizedFile
    pairs: dict[str, str]
    figures: dict[str, TensorFigures]
    reference: list[dict[str, Array]] = field(default_factory=list)
    outputs: list[dict[str, Array]] = field(default_factory=list)
    mismatched: list[str] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def unmatched(self) -> list[str]:
        made = [name for op in self.graph.ops for name in op.outputs if name in self.graph.floats]
        return [name for name in made if name not in self.pairs] + self.mismatched


def compare(
    float_graph: Graph, float_model: Path, artifact: QuantizedFile, path: Path, format: str,
    samples: Iterable[Sample], total: int, progress: Progress, *, runs: bool = True,
) -> Comparison:  # fmt: skip
    """Stream the samples through both files; samples are the float model's inputs by name, batch 1.

    ``runs``: whether the artifact can be run here; if not, its ranges are compared with the float model's values.

    Raises StageError where a file does not run, or there is no sample.
    """
    pairs = {name: value_of(artifact, other) for name, other in match(float_graph, artifact).items()}
    left = open_runner(float_model, format, sorted(float_graph.floats))
    right = open_runner(path, format, pairs.values()) if runs else None
    forms = input_forms(artifact)
    found = Comparison(float_graph, artifact, pairs, {}, [], [])
    for number, sample in enumerate(samples):
        reference = left.run(sample)
        found.reference.append(reference)
        values = None
        if right is not None:
            outputs = right.run(as_input(sample, left.inputs, right.inputs, forms))
            found.outputs.append(named_like(left, right, outputs, artifact))
            values = dict(right.tensors())
        _add_tensors(found, values, left, format)
        progress((number + 1) / total, f"compared {number + 1} of {total} samples")
    if not found.reference:
        raise StageError("There are no samples to compare on.", "Give at least one; the calibration samples will do.")
    return found


def _add_tensors(found: Comparison, values: Mapping[str, Array] | None, left: Runner, format: str) -> None:
    for name, reference in left.tensors():
        found.shapes[name] = reference.shape
        other = found.pairs.get(name)
        if other is None or not reference.size or (values is not None and other not in values):
            continue
        form = found.artifact.activations.get(other)
        got = None if values is None else values[other]
        if got is not None and got.dtype.kind in "iu":
            if form is None:
                continue
            got = form.values(got)
        if got is not None and got.shape != reference.shape:
            found.mismatched.append(name)
            found.pairs.pop(name)
            found.figures.pop(name, None)
            continue
        figures = found.figures.setdefault(name, TensorFigures(form, CHANNEL_AXIS[format]))
        figures.add(reference, got)


def input_forms(artifact: QuantizedFile) -> dict[int, Quantization]:
    """Return the int8 forms of the inputs that take integers, by position."""
    graph = artifact.graph
    return {i: artifact.activations[name] for i, name in enumerate(graph.inputs) if name in artifact.integers}


def named_like(left: Runner, right: Runner, outputs: dict[str, Array], artifact: QuantizedFile) -> dict[str, Array]:
    """Return the artifact's outputs as floats under the float model's names: by name, else by position."""
    names, its = ([spec["name"] for spec in runner.outputs] for runner in (left, right))
    same = set(names) == set(its)
    tensors = dict(zip(its, artifact.graph.outputs, strict=False))  # a runtime names outputs as the signature does
    found: dict[str, Array] = {}
    for name, other in zip(names, its, strict=True):
        key = name if same else other
        array, form = outputs[key], artifact.activations.get(tensors.get(key, key))
        found[name] = form.values(array) if array.dtype.kind in "iu" and form is not None else array
    return found


def layers_of(found: Comparison) -> list[Layer]:
    """Return the table, in graph order."""
    return [_layer(found, name, found.figures[name]) for name in found.pairs if _counted(found, name)]


def _counted(found: Comparison, name: str) -> bool:
    return name in found.figures and found.figures[name].values > 0


def _layer(found: Comparison, name: str, figures: TensorFigures) -> Layer:
    position = found.graph.producers.get(name)
    kind = found.graph.ops[position].kind if position is not None else ""
    norms = np.sqrt(figures.signal * figures.energy)
    base = {
        "tensor": name,
        "counterpart": found.pairs[name],
        "op": kind,
        "sqnr_db": 10 * float(np.log10(figures.signal / figures.noise)) if figures.noise and figures.signal else None,
        "cosine": float(figures.product / norms) if norms and found.outputs else None,
        "low": figures.low,
        "high": figures.high,
        "unevenness": figures.unevenness,
    }
    form = figures.form
    if form is None or not form.per_tensor:
        return Layer(**base)
    low, high = form.range
    return Layer(
        **base,
        scale=float(form.scale[0]),
        zero_point=int(form.zero[0]),
        range_low=low,
        range_high=high,
        range_used=min(1.0, max(0.0, (min(high, figures.high) - max(low, figures.low)) / (high - low))),
        clipped_low=figures.below / figures.values,
        clipped_high=figures.above / figures.values,
    )
