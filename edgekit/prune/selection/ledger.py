"""Account for a cost while blocks change their widths: only what a change touches is priced again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgekit.prune.channels.coupling import IntArray
from edgekit.prune.channels.graph import BoolArray, ChannelGraph, count_kept
from edgekit.prune.selection.cost import Cost, Part


class Ledger:
    """What a network costs at given block widths; units of a block are interchangeable, so counts suffice."""

    def __init__(self, graph: ChannelGraph, cost: Cost) -> None:
        self.parts = cost.parts(graph)
        sizes = np.array([len(block.units) for block in graph.blocks], np.int64)
        block_of = np.full(graph.unit_count + 1, -1, np.int64)  # the last entry serves unit -1
        for index, block in enumerate(graph.blocks):
            block_of[list(block.units)] = index
        self._counts = [[len(vector) for vector in part.vectors] for part in self.parts]
        self._prices = [part.price(tuple(counts)) for part, counts in zip(self.parts, self._counts, strict=True)]
        self._touched: list[dict[int, list[tuple[int, int]]]] = [{} for _ in graph.blocks]
        for index, part in enumerate(self.parts):
            for place, vector in enumerate(part.vectors):
                for number, per_channel in _shares(vector, block_of, sizes):
                    self._touched[number].setdefault(index, []).append((place, per_channel))
        self._near: dict[int, set[int]] = {}
        self._blocks_of: list[set[int]] = [set() for _ in self.parts]
        for number, touched in enumerate(self._touched):
            for index in touched:
                self._blocks_of[index].add(number)

    @property
    def total(self) -> float:
        return sum(self._prices)

    def change(self, block: int, channels: int) -> float:
        """Return by how much the total grows when a block gets ``channels`` more, or fewer where negative."""
        return sum(new - self._prices[index] for index, _, new in self._repriced(block, channels))

    def move(self, block: int, channels: int) -> None:
        """Let a block get ``channels`` more, or fewer where negative."""
        for index, counts, price in self._repriced(block, channels):
            self._counts[index] = counts
            self._prices[index] = price

    def neighbours(self, block: int) -> set[int]:
        """Return the blocks whose changes cost something else once this one has changed, itself included."""
        if block not in self._near:
            self._near[block] = {block}.union(*(self._blocks_of[index] for index in self._touched[block]))
        return self._near[block]

    def _repriced(self, block: int, channels: int) -> list[tuple[int, list[int], float]]:
        news = []
        for index, places in self._touched[block].items():
            counts = list(self._counts[index])
            for place, per_channel in places:
                counts[place] += per_channel * channels
            news.append((index, counts, self.parts[index].price(tuple(counts))))
        return news


def total(parts: list[Part], kept: BoolArray) -> float:
    """Return what the parts cost when only the units of the mask ``kept`` stay."""
    return sum(part.price(tuple(count_kept(vector, kept) for vector in part.vectors)) for part in parts)


def _shares(vector: IntArray, block_of: npt.NDArray[np.int64], sizes: IntArray) -> list[tuple[int, int]]:
    """Return the blocks in a vector of units, and how many of its channels one unit of each is."""
    blocks = block_of[vector]
    found, counts = np.unique(blocks[blocks >= 0], return_counts=True)
    return [(int(block), int(count) // int(sizes[block])) for block, count in zip(found, counts, strict=True)]
