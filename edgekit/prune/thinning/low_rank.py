"""Replace a layer by two thinner ones where that is nearly the same function and measures faster.

The outputs y of a layer on real samples hardly fill their ``n`` dimensions. With U, the first r eigenvectors of
their covariance, y - mean = U U'(y - mean) but for the energy that is left out, and no other map of rank r loses
less: the layer becomes itself with r outputs (kernel times U), then a 1x1 layer (U'). The closed form is that of
Zhang et al., "Accelerating Very Deep Convolutional Networks", 2016, section 3.1, before the nonlinearity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np

from edgekit.prune.keras.functional import weight_array
from edgekit.prune.keras.signature import Arrays, predict, sample_count
from edgekit.prune.thinning.low_rank_graph import Candidate, Factors, alone, candidates, with_pairs
from edgekit.prune.thinning.output_moments import Moments, moments

TimePair = Callable[[keras.Model, keras.Model], tuple[float, float]]
"""Times two models of one input each, in turns; returns the milliseconds of both."""

_HELD = 4  # every fourth sample measures the error and is not in the covariances


@dataclass(frozen=True)
class LowRankSettings:
    """``energy``: share of the variance of a layer's outputs that must stay; ``rank_step``: ranks are multiples.

    ``largest_time``: a pair must take at most this share of the layer's own time; short of that, it is noise.
    """

    energy: float = 0.99
    rank_step: int = 8
    largest_time: float = 0.9


@dataclass(frozen=True)
class Decision:
    """What was found for one layer. ``kept``: it is two layers now; ``why`` says what decided.

    ``error``: root mean square of the difference of its outputs over their standard deviation, from the
    energy left out. ``ms_*`` are None where it was not timed.
    """

    layer: str
    kept: bool
    why: str
    width: int = 0
    rank: int = 0
    energy: float = 0.0
    error: float = 0.0
    macs_before: int = 0
    macs_after: int = 0
    ms_before: float | None = None
    ms_after: float | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def factorise(
    model: keras.Model, samples: Arrays, settings: LowRankSettings, time_pair: TimePair
) -> tuple[keras.Model, list[Decision]]:
    """Return a model in which layers became pairs, and a decision for every Dense and convolution of the model.

    ``samples``: (N, ...) per input name, unlabelled. The given model is not touched; where no pair wins, it is
    returned itself. Layers keep their names, the thin one in front is called ``<name>_low_rank``.
    """
    found, passed_over = candidates(model)
    decisions = [Decision(name, False, why) for name, why in passed_over]
    statistics = moments(model, found, _without_held(samples)) if found else []
    chosen = []
    for candidate, moment in zip(found, statistics, strict=True):
        decision, factors = _consider(candidate, moment, settings)
        if factors is not None:
            decision = _judge(decision, *time_pair(alone(candidate), alone(candidate, factors)), settings)
        decisions.append(decision)
        if decision.kept and factors is not None:
            chosen.append((candidate, factors))
    return (with_pairs(model, chosen) if chosen else model), decisions


def output_error(model: keras.Model, changed: keras.Model, samples: Arrays) -> float:
    """Return the root mean square difference of the worst output, over its standard deviation.

    Measured on the samples that ``factorise`` held apart.
    """
    held = {name: array[::_HELD] for name, array in samples.items()}
    before, after = predict(model, held), predict(changed, held)
    return max(
        float(np.sqrt(np.mean((before[name] - after[name]) ** 2)) / (np.std(before[name]) or 1.0)) for name in before
    )


def _without_held(samples: Arrays) -> Arrays:
    chosen = np.arange(sample_count(samples)) % _HELD != 0
    return {name: array[chosen] for name, array in samples.items()} if chosen.any() else samples


def _consider(candidate: Candidate, moment: Moments, settings: LowRankSettings) -> tuple[Decision, Factors | None]:
    """Choose the rank; return what is known without timing, and the factors where they may be worth it."""
    width = candidate.width
    values, vectors = np.linalg.eigh(moment.covariance)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    total = float(values.sum())
    decision = Decision(candidate.layer.name, False, "", width=width, macs_before=candidate.macs())
    if total == 0.0:
        return replace(decision, why="its outputs are constant on these samples"), None
    shares = np.cumsum(values) / total
    needed = int(np.searchsorted(shares, settings.energy - 1e-12) + 1)
    rank = min(width, -(-needed // settings.rank_step) * settings.rank_step)
    energy = float(min(shares[rank - 1], 1.0))
    decision = replace(
        decision, rank=rank, energy=energy, error=float(np.sqrt(1.0 - energy)), macs_after=candidate.macs(rank)
    )
    if decision.macs_after >= settings.largest_time * decision.macs_before:
        return replace(decision, why=f"{settings.energy:.0%} of its energy needs {needed} of {width} dimensions"), None
    basis = vectors[:, :rank]
    kernel = weight_array(candidate.layer.kernel).astype(np.float64)
    rest = moment.mean - basis @ (basis.T @ moment.mean)
    bias = weight_array(candidate.layer.bias) if candidate.layer.use_bias else 0.0
    return decision, (kernel @ basis, basis.T, rest + bias)


def _judge(decision: Decision, before: float, after: float, settings: LowRankSettings) -> Decision:
    kept = after <= settings.largest_time * before
    why = f"rank {decision.rank} of {decision.width}: {before:.3g} -> {after:.3g} ms"
    return replace(decision, kept=kept, why=why + ("" if kept else ", no clear gain"), ms_before=before, ms_after=after)
