"""Causes that lie in the weights, and what is left when nothing else explains an error."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekit.diagnose.causes import SMALL_BLAME, UNEVEN, Evidence, accuracy, percent
from edgekit.diagnose.schema import Finding

_OFF_STEPS = 1.5  # rounding is half a step, a guard for int32 biases may widen it
_LISTED = 5  # of what nothing explains: the worst
_OFF_BIAS = 0.01  # of the largest bias


def dead_channels(evidence: Evidence) -> Iterator[Finding]:
    """Find biases that int32 cannot hold because their channel's weights are almost 0."""
    for name, tried in evidence.free_weights():
        each = evidence.weights[name]
        if each.bias is None or each.held_bias is None or not tried.cured_by("float bias"):
            continue
        held, right = each.held_bias.values.reshape(-1), each.bias[1].reshape(-1)
        worst = int(np.argmax(np.abs(held - right)))
        if abs(held[worst] - right[worst]) < _OFF_BIAS * np.abs(right).max():
            continue
        evidence.claim_weights(name)
        yield accuracy(
            evidence, "dead-channels", [name], tried.alone, tried.cures["float bias"],
            f"channel {worst} has weights of at most {each.filters[worst]:.2g}, so its bias {right[worst]:.4g} is held "
            f"as {held[worst]:.4g}. {_alone(tried.alone)}, with the float bias {percent(tried.cures['float bias'])}",
            f"Prune channel {worst}, or keep {name!r} weight-only, or give its weights a scale of at least |bias| / "
            "(2^30 input scale).",
        )  # fmt: skip


def per_tensor_weights(evidence: Evidence) -> Iterator[Finding]:
    """Find weights with one scale for filters of very different size, above all depthwise ones."""
    for name, tried in evidence.free_weights():
        each = evidence.weights[name]
        if not (each.per_tensor and tried.cured_by("per channel")):
            continue
        evidence.claim_weights(name)
        kind = "depthwise filters" if each.depthwise else "filters"
        yield accuracy(
            evidence, "per-tensor-weights", [name], tried.alone, tried.cures["per channel"],
            f"one scale for {len(each.filters)} {kind} that reach from {each.filters.min():.2g} to "
            f"{each.filters.max():.3g}. {_alone(tried.alone)}, per channel {percent(tried.cures['per channel'])}",
            f"Quantize the weights of {name!r} per channel.",
        )  # fmt: skip


def other_weights(evidence: Evidence) -> Iterator[Finding]:
    """Find weights that are no rounding of the float model's."""
    off = {name: each.off_by_steps for name, each in evidence.weights.items() if each.off_by_steps > _OFF_STEPS}
    where = [name for name, tried in evidence.free_weights() if name in off and tried.cured_by("float weights")]
    if not where:
        return
    for name in where:
        evidence.claim_weights(name)
    tried = evidence.blame.weights[where[0]]
    yield accuracy(
        evidence, "other-weights", where, tried.alone, tried.cures["float weights"],
        f"the weights of {where[0]!r} are {off[where[0]]:.3g} steps from the float model's; rounding makes half a "
        f"step. {_alone(tried.alone)}",
        "Compare with the float file that this artifact was made from.",
    )  # fmt: skip


def uneven_inputs(evidence: Evidence) -> Iterator[Finding]:
    """Find filters whose weights differ widely from input channel to input channel."""
    for name, tried in evidence.free_weights():
        each = evidence.weights[name]
        if not tried.cured_by("per input channel") or each.input_unevenness < UNEVEN:
            continue
        evidence.claim_weights(name)
        source = next((i for i in each.op.inputs if i in evidence.found.graph.floats), name)
        yield accuracy(
            evidence, "uneven-channels", [name], tried.alone, tried.cures["per input channel"],
            f"its largest weights for one input channel are {each.input_unevenness:.1f} times their geometric mean "
            f"over all. {_alone(tried.alone)}, with a scale for each {percent(tried.cures['per input channel'])}",
            f"Equalize the channels of {source!r} (cross-layer equalization keeps the function), or keep {name!r} in "
            "float.",
        )  # fmt: skip


def too_few_bits(evidence: Evidence) -> Iterator[Finding]:
    """Name what no cure helped: these need more than 8 bits."""
    for name, tried in evidence.free_tensors()[:_LISTED]:
        evidence.claimed.add(name)
        yield accuracy(
            evidence, "sensitive-tensor", [name], tried.alone, 0.0,
            f"{_alone(tried.alone)}; no other range or scale brings half of that back",
            f"Keep the op that makes {name!r}, and those that read it, in float.",
        )  # fmt: skip
    for name, tried in evidence.free_weights()[:_LISTED]:
        evidence.claim_weights(name)
        yield accuracy(
            evidence, "sensitive-weights", [name], tried.alone, 0.0,
            f"{_alone(tried.alone)}; no other scale brings half of that back", f"Keep {name!r} in float.",
        )  # fmt: skip


def unexplained(evidence: Evidence) -> Iterator[Finding]:
    """Say so where rounding, weights and ranges together do not make the artifact's error."""
    explained, actual = evidence.blame.groups["all"], evidence.artifact_error
    if actual < SMALL_BLAME or explained > actual / 2 or evidence.layout_found:
        return
    figures = evidence.found.figures
    first = next((n for n, f in figures.items() if f.signal and f.noise > SMALL_BLAME * f.signal), "")
    yield accuracy(
        evidence, "kernel-differs", [first] if first else [], actual, explained,
        f"the artifact is off by {percent(actual)}; all its rounding put on the float model gives {percent(explained)}"
        + (f". The first tensor that differs by more than a fifth is {first!r}" if first else ""),
        "An op computes something else in int8 than in float, or the files are of two models: look at that tensor.",
    )  # fmt: skip


def _alone(error: float) -> str:
    return f"Alone it costs {percent(error)} at the outputs"
