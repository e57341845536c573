"""The table of causes: each a function from the figures to findings, asked in this order.

A cause *claims* the tensors and ops it explains; what is claimed is not explained a second time. Blame is the
relative error at the outputs that the cure takes away, never more than the artifact's own error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from edgekit.diagnose.compare_layers import Comparison
from edgekit.diagnose.gates import Gate
from edgekit.diagnose.layout_trial import LayoutTrial
from edgekit.diagnose.output_blame import WORTH_A_CURE, Blame, Tried, as_in_artifact
from edgekit.diagnose.schema import Finding, Harm
from edgekit.diagnose.weight_forms import OpWeights

SMALL_BLAME = 0.05  # a healthy int8 model stays below it with every finding
UNEVEN = 3.0  # largest channel / geometric mean of all
_SLACK = 1.5  # errors of single changes do not add up exactly to the error of all of them
_FULL = 1.0
_HARM_ORDER: dict[Harm, int] = {"fails": 0, "accuracy": 1, "latency": 2}


@dataclass
class Evidence:
    """All figures. ``artifact_error``: the artifact's relative error at its worst output part, on the same samples.

    ``claimed``: tensors, and ``OP/weights``, that a cause explained already.
    """

    found: Comparison
    format: str
    blame: Blame
    weights: Mapping[str, OpWeights]
    gates: list[Gate]
    layout: LayoutTrial | None
    artifact_error: float
    claimed: set[str] = field(default_factory=set)

    @property
    def layout_found(self) -> bool:
        return self.layout is not None and self.layout.changed <= self.layout.error / 2

    def free_tensors(self) -> list[tuple[str, Tried]]:
        """Return the tensors that nothing explains yet, worst first."""
        found = [(name, tried) for name, tried in self.blame.tensors.items() if name not in self.claimed]
        return sorted((pair for pair in found if pair[1].alone >= WORTH_A_CURE), key=lambda pair: -pair[1].alone)

    def free_weights(self) -> list[tuple[str, Tried]]:
        found = [(name, tried) for name, tried in self.blame.weights.items() if f"{name}/weights" not in self.claimed]
        return sorted((pair for pair in found if pair[1].alone >= WORTH_A_CURE), key=lambda pair: -pair[1].alone)

    def claim_weights(self, op: str) -> None:
        self.claimed.add(f"{op}/weights")


Cause = Callable[[Evidence], Iterator[Finding]]


def findings_of(evidence: Evidence, causes: tuple[Cause, ...]) -> list[Finding]:
    """Ask every cause and return what was found, worst first; accuracy before latency unless it is small."""
    return in_order([finding for cause in causes for finding in cause(evidence)])


def in_order(findings: list[Finding]) -> list[Finding]:
    def place(finding: Finding) -> tuple[int, float]:
        small = finding.harm == "accuracy" and finding.blame < SMALL_BLAME
        return (3 if small else _HARM_ORDER[finding.harm]), -finding.blame

    return sorted(findings, key=place)


def accuracy(
    evidence: Evidence, cause: str, where: list[str], before: float, after: float, proof: str, cure: str
) -> Finding:
    """Make a finding whose blame is what remains of the error ``before`` when ``after`` is taken out (as energies)."""
    share = float(np.sqrt(max(before**2 - after**2, 0.0))) if np.isfinite(before) else _FULL
    limit = min(_FULL, _SLACK * evidence.artifact_error)
    return Finding(cause=cause, harm="accuracy", blame=min(share, limit), where=where, proof=proof, cure=cure)


def is_at_the_end(evidence: Evidence, tensor: str) -> bool:
    """Tell whether no op with weights comes after a tensor."""
    graph = evidence.found.graph
    waiting = list(graph.consumers.get(tensor, ()))
    seen: set[int] = set()
    while waiting:
        position = waiting.pop()
        if position in seen:
            continue
        seen.add(position)
        if graph.ops[position].weighted:
            return False
        waiting += graph.after(position)
    return True


def percent(share: float) -> str:
    return f"{100 * share:.{2 if share < 0.995 else 3}g} %" if np.isfinite(share) else "without bound"


def not_finite(evidence: Evidence) -> Iterator[Finding]:
    """Find the first tensor with NaN or infinity, in either file."""
    for side in ("float", "artifact"):
        bad = [name for name, figures in evidence.found.figures.items() if figures.not_finite[side]]
        if bad:
            count = evidence.found.figures[bad[0]].not_finite[side]
            of = "float model" if side == "float" else "artifact"
            yield Finding(
                cause="not-finite", harm="fails", blame=_FULL, where=bad,
                proof=f"the {of} first holds NaN or infinity in {bad[0]!r}, on {count} samples",
                cure="Check the preprocessing." if side == "float" else "Keep the op that makes it in float.",
            )  # fmt: skip
            return


def swapped_layout(evidence: Evidence) -> Iterator[Finding]:
    """Find an input that the artifact reads in another order than the float model."""
    trial = evidence.layout
    if trial is None or not evidence.layout_found:
        return
    evidence.claimed |= evidence.found.figures.keys() | {f"{name}/weights" for name in evidence.weights}
    yield accuracy(
        evidence, "swapped-layout", [trial.input], trial.error, trial.changed,
        f"the outputs differ by {percent(trial.error)}; from the float model that gets {trial.input!r} "
        f"{trial.order}, by {percent(trial.changed)}",
        "Feed the artifact that order, or convert again with the order the float model was trained on "
        "([preprocess] color and layout).",
    )  # fmt: skip


def mixed_outputs(evidence: Evidence) -> Iterator[Finding]:
    """Find values of different nature that one scale must hold: boxes in pixels beside scores."""
    for name, tried in evidence.free_tensors():
        if not tried.cured_by("per part") or not is_at_the_end(evidence, name):
            continue
        op = evidence.found.graph.ops[evidence.found.graph.producers[name]]
        figures = evidence.found.figures
        peaks = {part: max(abs(figures[part].low), abs(figures[part].high)) for part in op.inputs if part in figures}
        smallest = min(peaks, key=lambda part: peaks[part])
        form = figures[name].form
        steps = peaks[smallest] / float(form.scale[0]) if form is not None else 0.0
        evidence.claimed |= {name, *op.inputs}
        yield accuracy(
            evidence, "mixed-outputs", [name], tried.alone, tried.cures["per part"],
            f"{', '.join(f'{part!r} reaches {peak:.3g}' for part, peak in peaks.items())}; under one scale "
            f"{smallest!r} has {steps:.2g} steps. {_alone(tried, 'per part', 'with a scale for each part')}",
            f"Keep {name!r} and what is behind it in float, or make its parts separate outputs.",
        )  # fmt: skip


def hard_swish(evidence: Evidence) -> Iterator[Finding]:
    """Find gates whose input, or inner tensors, 8 bits are too few for."""
    for gate in evidence.gates:
        tried = evidence.blame.gates.get(gate.name)
        if tried is None or tried.alone < WORTH_A_CURE or evidence.claimed & set(gate.tensors):
            continue
        rounded = [name for name in gate.tensors if as_in_artifact(evidence.found.figures.get(name)) is not None]
        figures = evidence.found.figures[rounded[0]]
        evidence.claimed |= set(gate.tensors)
        cured = tried.cured_by("from -3")
        kind = "hard-swish" if gate.hard else "gate"
        proof = f"{rounded[0]!r} runs from {figures.low:.3g} to {figures.high:.3g}; in int8 this {kind} "
        proof += f"costs {percent(tried.alone)} at the outputs"
        proof += f", and {percent(tried.cures['from -3'])} if the range begins just below -3" if cured else ""
        cure = f"Keep {gate.name!r} and the op that makes {gate.input!r} in float."
        if cured:
            cure = f"Let the range of {gate.input!r} begin at -3.1 (everything below -3 gives 0). Or: {cure}"
        after = tried.cures["from -3"] if cured else 0.0
        yield accuracy(evidence, kind, [gate.name, *rounded], tried.alone, after, proof, cure)


def outlier_channel(evidence: Evidence) -> Iterator[Finding]:
    """Find one channel that is far larger than all others, which then share a few steps."""
    for name, tried in evidence.free_tensors():
        alive = evidence.found.figures[name].alive
        if not tried.cured_by("per channel") or len(alive) < 3 or not _one_stands_out(alive):
            continue
        channel = int(np.argmax(evidence.found.figures[name].channels))
        evidence.claimed.add(name)
        yield accuracy(
            evidence, "outlier-channel", [name], tried.alone, tried.cures["per channel"],
            f"channel {channel} reaches {alive[0]:.3g}, the next {alive[1]:.3g}. "
            f"{_alone(tried, 'per channel', 'with a scale for each channel')}",
            f"Scale channel {channel} down where it is made and up where it is read (the function stays the same), "
            f"or keep the ops that read {name!r} in float.",
        )  # fmt: skip


def uneven_channels(evidence: Evidence) -> Iterator[Finding]:
    """Find channels of very different size under one scale, in front of an op."""
    for name, tried in evidence.free_tensors():
        figures = evidence.found.figures[name]
        if not tried.cured_by("per channel") or (figures.unevenness or 1.0) < UNEVEN:
            continue
        evidence.claimed.add(name)
        readers = ", ".join(
            repr(evidence.found.graph.ops[i].name) for i in evidence.found.graph.consumers.get(name, ())
        )
        yield accuracy(
            evidence, "uneven-channels", [name], tried.alone, tried.cures["per channel"],
            f"its channels reach from {figures.alive[-1]:.2g} to {figures.alive[0]:.3g}, the largest "
            f"{figures.unevenness or 1:.1f} times their geometric mean. "
            f"{_alone(tried, 'per channel', 'with a scale for each channel')}",
            f"Equalize its channels (cross-layer equalization keeps the function), or keep {readers} in float.",
        )  # fmt: skip


def _one_stands_out(alive: np.ndarray) -> bool:
    """Tell whether the largest channel is 4 times the next, and further from it than that from its own median."""
    gap = alive[0] / alive[1]
    return bool(gap >= 4 and alive[1] / np.median(alive[1:]) < gap)


def _alone(tried: Tried, cure: str, words: str) -> str:
    return f"Rounding it alone costs {percent(tried.alone)} at the outputs, {words} {percent(tried.cures[cure])}"
