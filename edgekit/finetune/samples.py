"""Which calibration samples fine-tuning may see: never those that judge the plans."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

LEAST = 24  # calibration samples; of fewer, too little is left once some judge the plans and some end the training
_WATCHED = 0.2
_WATCHED_AT_MOST = 64
_TRAIN_AT_MOST = 1024  # they are all in memory


@dataclass(frozen=True)
class Samples:
    """Positions in the calibration data: learned from, and watched to tell when to stop."""

    train: tuple[int, ...]
    watch: tuple[int, ...]

    @classmethod
    def of(cls, available: int, held: Collection[int]) -> Samples:
        """Share out what is not ``held``; every fifth is watched, so that neighbours do not end up on one side."""
        free = [index for index in range(available) if index not in held]
        watched = set(free[:: round(1 / _WATCHED)][:_WATCHED_AT_MOST])
        train = [index for index in free if index not in watched]
        return cls(tuple(train[:: 1 + (len(train) - 1) // _TRAIN_AT_MOST]), tuple(sorted(watched)))
