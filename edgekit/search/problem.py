"""What a search works on and what comes out of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edgekit.quantize.graph import Graph
from edgekit.quantize.plan import Plan, Ranges
from edgekit.search.trial import Trial

SENSITIVE = "costs accuracy in int8"
HAZARD = "loses too much in int8"


@dataclass(frozen=True)
class Base:
    """A float model, as it came or repaired without changing what it computes, with ranges for its tensors.

    ``activations``: static or dynamic int8 instead of what ``decide`` takes by rule.
    """

    name: str
    model: Path
    graph: Graph
    ranges: Ranges
    activations: str = ""


@dataclass(frozen=True)
class Kept:
    """A plan with the model it is a plan of: ranges of one base mean nothing in another."""

    base: Base
    plan: Plan
    loss: float


@dataclass(frozen=True)
class Tried:
    """One line of the search's log. ``loss``: 1 minus the agreement with the float model; inf: does not run."""

    what: str
    float_ops: int
    loss: float
    size_bytes: int
    refusal: str = ""
    fastest_ms: float = 0.0


@dataclass(frozen=True)
class UnitError:
    """What one unit does when it alone is int8: agreement lost, and noise-to-signal power of the worst output.

    ``gain_ms``: the float file's fastest call less this file's, borders included; a unit alone often gains nothing.
    ``loss`` and ``gain_ms`` are None where larger errors lost nothing, so that they were not measured.
    """

    unit: str
    kind: str
    loss: float | None
    error: float
    gain_ms: float | None = None


@dataclass
class Found:
    """The best plan, what it loses, and how it was found."""

    base: Base
    plan: Plan
    loss: float
    reached: bool
    complete: bool
    log: list[Tried] = field(default_factory=list)
    sensitivity: list[UnitError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _no_repair(base: Base, plan: Plan, rounding: bool, deadline: float) -> Base | None:
    return None


@dataclass(frozen=True)
class Problem:
    """What the search works on.

    ``decide(base, exclude, hazards)`` makes a plan; ``run(base, plan, limit)`` tries it; ``loss(trial)`` judges it.
    ``bases``: what can be started from, the plainest first, each made only when it is needed.
    ``refine(base, plan, rounding, deadline)`` fits the base to the plan, see ``refine.Refiner``.
    ``largest_bytes``: the size that the file should stay under.
    """

    decide: Callable[[Base, Mapping[str, str], bool], Plan]
    run: Callable[[Base, Plan | None, int | None], Trial]
    loss: Callable[[Trial], float]
    bases: Sequence[Callable[[], Base | None]]
    refine: Callable[[Base, Plan, bool, float], Base | None] = _no_repair
    largest_bytes: float = math.inf


def noise_to_signal(reference: Trial, trial: Trial) -> float:
    """Return the largest over outputs of mean squared error over the variance of the float output.

    The variance is that of each element from sample to sample: where a box lies on the image is no signal. A single
    sample, or outputs that never change, leave the variance over the elements.
    """
    worst = 0.0
    for name in reference.outputs[0]:
        right = np.stack([made[name].astype(np.float64).ravel() for made in reference.outputs])
        got = np.stack([made[name].astype(np.float64).ravel() for made in trial.outputs])
        power = float(right.var(axis=0).mean()) or float(right.var())
        worst = max(worst, float(((got - right) ** 2).mean()) / (power or 1.0))
    return worst
