"""Which samples are learned from, and which are held apart to judge by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_SHARE = 6  # every sixth sample
_AT_MOST = 384
_LEAST = 12


@dataclass(frozen=True)
class Split:
    """Numbers of the samples that are learned from, and of those held apart (none where there are too few)."""

    train: npt.NDArray[np.int64]
    held: npt.NDArray[np.int64]

    @classmethod
    def of(cls, samples: int) -> Split:
        """Hold every sixth sample apart, so that neighbours do not all end up on one side; 384 at most."""
        numbers = np.arange(samples)
        if samples < _LEAST:
            return cls(numbers, numbers[:0])
        held = numbers[_SHARE - 1 :: max(_SHARE, -(-samples // _AT_MOST))]
        return cls(np.setdiff1d(numbers, held), held)
