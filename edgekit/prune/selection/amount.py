"""How much to cut: a bisection over the share of the cost that stays, each step a whole cut and recovery."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

FIRST = 0.4
_FURTHER = 0.6  # where everything held so far: the next share over the smallest one that did
_NEAR = 0.85  # a smaller over a larger share: closer is not worth a training
_LEAST = 0.03
_MOST = 0.9
_HUNDREDTH = 0.01


@dataclass(frozen=True)
class Probe:
    """One amount that was tried: the share of the cost that stayed, and what it lost in points."""

    keep: float
    drop_points: float


def next_share(probes: Sequence[Probe], allowed_points: float) -> float | None:
    """Return the share to try next, or None where the border is known well enough.

    The border lies between the smallest share that stayed within ``allowed_points`` and the largest that did
    not. Shares are bisected on a logarithmic scale: a step from 0.4 to 0.2 saves as much as one from 0.2 to 0.1.
    """
    if not probes:
        return FIRST
    good = min((probe.keep for probe in probes if probe.drop_points <= allowed_points), default=None)
    worse = [probe.keep for probe in probes if probe.drop_points > allowed_points]
    bad = max((keep for keep in worse if good is None or keep < good), default=None)
    if good is None:
        wanted = math.sqrt(max(worse) * 1.0)
        return wanted if wanted <= _MOST else None
    if bad is None:
        wanted = good * _FURTHER
        return wanted if wanted >= _LEAST else None
    return math.sqrt(good * bad) if bad / good < _NEAR else None


def largest_share(reaches: Callable[[float], bool]) -> float:
    """Return the largest share that ``reaches`` a speed, found by bisection; the least one where none does.

    Asking costs no training, so the border is found to a hundredth.
    """
    low, high = _LEAST, _MOST
    if not reaches(low):
        return low
    if reaches(high):
        return high
    while high - low > _HUNDREDTH:
        middle = (low + high) / 2
        low, high = (middle, high) if reaches(middle) else (low, middle)
    return low


def best(probes: Sequence[Probe], allowed_points: float) -> Probe:
    """Return the smallest share within the allowance; where there is none, the probe that lost the least."""
    within = [probe for probe in probes if probe.drop_points <= allowed_points]
    if within:
        return min(within, key=lambda probe: probe.keep)
    return min(probes, key=lambda probe: (probe.drop_points, -probe.keep))
