"""Which channels must live or die together: a union-find over channel ids."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


class Channels:
    """Number every channel of every tensor, couple those one decision must cover, freeze those that stay."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._reason: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._parent)

    def fresh(self, count: int) -> IntArray:
        """Make ``count`` new, uncoupled ids."""
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return np.arange(start, start + count, dtype=np.int64)

    def find(self, identity: int) -> int:
        """Return the smallest id of an id's class, so that numbering follows the graph."""
        root = identity
        while self._parent[root] != root:
            root = self._parent[root]
        while self._parent[identity] != root:
            self._parent[identity], identity = root, self._parent[identity]
        return root

    def classes(self, identities: IntArray) -> IntArray:
        """Return the class of each id: the smallest id in it."""
        return np.array([self.find(identity) for identity in identities.tolist()], dtype=np.int64)

    def couple(self, left: IntArray, right: IntArray) -> None:
        """Join two equally long vectors of ids element by element; a frozen class stays frozen."""
        if len(left) != len(right):
            raise ValueError(f"{len(left)} channels cannot be coupled with {len(right)}")
        apart = left != right  # most calls meet the very ids they met before
        for one, other in zip(left[apart].tolist(), right[apart].tolist(), strict=True):
            low, high = sorted((self.find(one), self.find(other)))
            if low == high:
                continue
            self._parent[high] = low
            if high in self._reason:
                self._reason.setdefault(low, self._reason.pop(high))

    def freeze(self, identities: IntArray, reason: str) -> None:
        """Keep these channels whatever the importance says; the first reason is the one reported."""
        for identity in set(identities.tolist()):
            self._reason.setdefault(self.find(identity), reason)

    def frozen_because(self, identity: int) -> str | None:
        """Return why the class of an id is frozen, or None where it may be pruned."""
        return self._reason.get(self.find(identity))
