"""Measure at the outputs what the rounding of one tensor, or of one op's weights, does there, all else being float.

A layer's own signal-to-noise ratio does not find the culprit: on a real detector the tensor that broke it had a
fine 44 dB. Every cause is tried the same way, by the error that remains when it alone is cured.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.diagnose.compare_layers import CHANNEL_AXIS, Comparison, TensorFigures
from edgekit.diagnose.execute import Sample, open_runner
from edgekit.diagnose.gates import Gate
from edgekit.diagnose.output_error import CONCATENATIONS, Outputs, Part, concatenated, errors
from edgekit.diagnose.simulate import Rounding, simulate
from edgekit.diagnose.weight_forms import OpWeights
from edgekit.progress import Progress

Array = npt.NDArray[Any]
Change = tuple[Mapping[str, Rounding], Mapping[str, Array]]
WORTH_A_CURE = 0.01  # relative error at the outputs below which nobody asks for the cause
KEPT_SHARE = 0.999
_CURES_TRIED = 8
_SHARE_FOR_SINGLES = 0.7
_HARD_SWISH_ZERO, _MARGIN = -3.0, 0.1


@dataclass(frozen=True)
class Tried:
    """Relative errors at the worst output part: ``alone`` as the artifact has it, the others with one cure each."""

    alone: float
    cures: Mapping[str, float] = field(default_factory=dict)

    def cured_by(self, cure: str) -> bool:
        """Tell whether a cure takes at least half of the error away."""
        return cure in self.cures and self.cures[cure] < self.alone / 2


@dataclass
class Blame:
    """``tensors`` by float tensor, ``weights`` by op, ``gates`` by name: their input and inner tensors together.

    ``groups``: all "activations", the same with their "own ranges", all "weights", and "all" of it.
    """

    tensors: dict[str, Tried] = field(default_factory=dict)
    weights: dict[str, Tried] = field(default_factory=dict)
    gates: dict[str, Tried] = field(default_factory=dict)
    groups: dict[str, float] = field(default_factory=dict)
    probes: int = 0
    complete: bool = True


class Prober:
    """Runs changed float models on a few samples. ``reference``: the float model's outputs for them."""

    def __init__(
        self, float_model: Path, format: str, samples: Sequence[Sample], reference: Sequence[Outputs],
        parts: Sequence[Part],
    ) -> None:  # fmt: skip
        self._content = float_model.read_bytes()
        self._format, self._samples, self._reference, self._parts = format, samples, reference, parts
        self.probes = 0

    def error(self, rounded: Mapping[str, Rounding], constants: Mapping[str, Array] | None = None) -> float:
        """Return the relative error of the worst output part with these changes (0 without any)."""
        if not rounded and not constants:
            return 0.0
        self.probes += 1
        runner = open_runner(simulate(self._content, self._format, rounded, constants or {}), self._format, fast=True)
        outputs = [runner.run(sample) for sample in self._samples]
        return max(errors(self._parts, self._reference, outputs).values(), default=0.0)


def measure(
    prober: Prober, found: Comparison, weights: Mapping[str, OpWeights], gates: Sequence[Gate], format: str,
    deadline: float, progress: Progress,
) -> Blame:  # fmt: skip
    """Try the groups, then every tensor and op by itself, most suspicious first, then cures for the worst.

    ``deadline`` is of ``time.monotonic``; what was not tried by then is missing and ``complete`` is False.
    """
    blame = Blame()
    rounded = {name: form for name in found.pairs if (form := as_in_artifact(found.figures.get(name))) is not None}
    own = {name: Rounding.over(found.figures[name].low, found.figures[name].high) for name in rounded}
    constants = {name: value for each in weights.values() for name, value in each.stored.items()}
    blame.groups = {
        "activations": prober.error(rounded),
        "own ranges": prober.error(own),
        "weights": prober.error({}, constants),
        "all": prober.error(rounded, constants),
    }
    middle = time.monotonic() + _SHARE_FOR_SINGLES * (deadline - time.monotonic())
    jobs: list[tuple[float, dict[str, Tried], str, Change]] = [
        *((_suspicion(found.figures[name]), blame.tensors, name, ({name: form}, {})) for name, form in rounded.items()),
        *((each.unevenness, blame.weights, name, ({}, each.stored)) for name, each in weights.items()),
    ]
    for done, (_, results, name, change) in enumerate(sorted(jobs, key=lambda job: -job[0])):
        if time.monotonic() > middle:
            blame.complete = False
            break
        results[name] = Tried(prober.error(*change))
        progress(done / len(jobs), f"tried {name} at the outputs ({done + 1} of {len(jobs)})")
    for gate in gates:
        inside = {name: rounded[name] for name in gate.tensors if name in rounded}
        if inside and time.monotonic() < deadline:
            from_where = {name: _from_minus_3(found.figures[name]) for name in inside} if gate.hard else {}
            cures = {"from -3": prober.error(from_where)} if from_where else {}
            blame.gates[gate.name] = Tried(prober.error(inside), cures)
    _try_cures(blame, prober, found, weights, format, deadline)
    blame.probes = prober.probes
    return blame


def as_in_artifact(figures: TensorFigures | None) -> Rounding | None:
    """Return the artifact's own rounding of a tensor; None where it keeps it float."""
    if figures is None or figures.form is None or not figures.form.per_tensor or not figures.values:
        return None
    return Rounding.of(figures.form)


def _suspicion(figures: TensorFigures) -> float:
    clipped = (figures.below + figures.above) / figures.values
    return (figures.unevenness or 1.0) * (1 + 100 * clipped)


def _try_cures(
    blame: Blame, prober: Prober, found: Comparison, weights: Mapping[str, OpWeights], format: str, deadline: float
) -> None:
    def cures_of(name: str, results: dict[str, Tried]) -> dict[str, Change]:
        if results is blame.weights:
            return {cure: ({}, held) for cure, held in weights[name].cures().items()}
        return {cure: ({name: form}, {}) for cure, form in tensor_cures(found, name, format).items()}

    for results in (blame.tensors, blame.weights):
        worst = sorted(results, key=lambda name: -results[name].alone)[:_CURES_TRIED]
        for name in worst:
            if results[name].alone < WORTH_A_CURE:
                continue
            if time.monotonic() > deadline:
                blame.complete = False
                return
            cured = {cure: prober.error(*change) for cure, change in cures_of(name, results).items()}
            results[name] = Tried(results[name].alone, cured)


def tensor_cures(found: Comparison, name: str, format: str) -> dict[str, Rounding]:
    """Return what could help one tensor.

    "own range": that of the samples; "clipped": without its rarest values; "per channel", "per part": one scale
    each, which stands for equalizing them.
    """
    figures = found.figures[name]
    signed = figures.low < 0
    cures = {"own range": Rounding.over(figures.low, figures.high)}
    kept = figures.quantile_range(KEPT_SHARE)
    if kept is not None:
        cures["clipped"] = Rounding.over(max(kept[0], figures.low), min(kept[1], figures.high))
    if len(figures.channels) > 1:
        shape = found.shapes[name]
        axis = CHANNEL_AXIS[format] % len(shape)
        cures["per channel"] = Rounding.per_channel(figures.channels, len(shape), axis, signed=signed)
    parts = magnitudes_of_parts(found, name)
    if parts is not None:
        cures["per part"] = parts[1]
    return cures


def _from_minus_3(figures: TensorFigures) -> Rounding:
    """Return the rounding without what hard-swish makes 0 anyway; its lowest step must lie there, not above."""
    return Rounding.over(max(figures.low, _HARD_SWISH_ZERO - _MARGIN), figures.high)


def magnitudes_of_parts(found: Comparison, name: str) -> tuple[dict[str, float], Rounding] | None:
    """Return the largest magnitude of each input of a concatenation, and the rounding with one scale for each."""
    position = found.graph.producers.get(name)
    op = None if position is None else found.graph.ops[position]
    if op is None or op.kind not in CONCATENATIONS:
        return None
    slices = concatenated(op, found.shapes)
    if not slices or any(part not in found.figures for part, *_ in slices):
        return None
    peaks = {part: max(abs(found.figures[part].low), abs(found.figures[part].high)) for part, *_ in slices}
    axis = slices[0][1]
    wide = np.concatenate([np.full(stop - start, peaks[part]) for part, _, start, stop in slices])
    signed = found.figures[name].low < 0
    return peaks, Rounding.per_channel(wide, len(found.shapes[name]), axis, signed=signed)
