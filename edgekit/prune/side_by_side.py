"""Train several networks at once, each in a process of its own.

The layers of a small network keep two cores busy for part of each step only: two trainings side by side are done
before the same two one after the other, with the same bits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit import keras_io, worker
from edgekit.progress import Progress
from edgekit.prune.candidate import What, is_made, name_of
from edgekit.prune.keras.signature import Arrays, sample_count
from edgekit.prune.order import Order
from edgekit.runtimes.facts import memory_bytes

MOST = 2  # at once: a third slowed the other two by more than it gained, on two cores
_TRAINING = 3 << 30  # bytes of a process that trains, besides its samples
_WORTH = 1e12  # multiply-accumulates of a forward pass over all samples and epochs: a process takes 10 s to begin


@dataclass(frozen=True)
class Wanted:
    """A network to train. share: what that takes, in trainings of the unpruned network."""

    what: What
    seed: int
    share: float

    @property
    def name(self) -> str:
        return name_of(self.what, self.seed)


@dataclass(frozen=True)
class Team:
    """Makes networks in ``work``, where the stage finds them. held: some samples are held apart."""

    order: Order
    work: Path
    held: bool
    at_once: int

    def train(self, wanted: Sequence[Wanted], progress: Progress) -> None:
        """Train those that are not there yet, if there are several and room for it; else leave them to the stage."""
        missing = [each for each in wanted if not is_made(self.work / each.name)]
        if self.at_once < 2 or len(missing) < 2:
            return
        board = _Board(missing, len(wanted), progress)
        children = worker.Children()
        with ThreadPoolExecutor(self.at_once) as pool:
            running = [pool.submit(self._train, each, board, children) for each in missing]
            try:
                for future in as_completed(running):
                    future.result()
            except BaseException:
                for future in running:
                    future.cancel()
                children.end()
                raise

    def _train(self, wanted: Wanted, board: _Board, children: worker.Children) -> None:
        folder = self.work / wanted.name
        folder.mkdir(exist_ok=True)
        worker.run(
            "edgekit.prune.stage:train",
            {**vars(self.order), "work": self.work, "what": wanted.what, "seed": wanted.seed, "held": self.held},
            folder, lambda done, text: board.tell(wanted, done), label=wanted.name, children=children, own_cpu=True,
            custom=keras_io.custom_file(),
        )  # fmt: skip
        board.tell(wanted, 1.0)


def at_once(settings: dict[str, Any], macs: float, inputs: Arrays, jobs: int) -> int:
    """Return how many trainings may run at once, each with samples of its own in memory.

    One where they are short, or where layers are timed between them.
    """
    if macs * sample_count(inputs) * settings["epochs"] < _WORTH or settings["low_rank"]:
        return 1
    samples = 2 * sum(array.nbytes for array in inputs.values())  # what is without labels may be as many
    fitting = (memory_bytes() - samples) // (_TRAINING + samples)
    return int(max(1, min(jobs, MOST, fitting)))


class _Board:
    """Makes one progress of many, told from several threads."""

    def __init__(self, missing: Sequence[Wanted], total: int, progress: Progress) -> None:
        self._done = dict.fromkeys(missing, 0.0)
        self._made_before, self._total, self._progress = total - len(missing), total, progress
        self._lock, self._began = threading.Lock(), 0.0
        self._at_first: dict[Wanted, float] = {}  # what a training told first: its epochs before a kill are in it

    def tell(self, wanted: Wanted, done: float) -> None:
        with self._lock:
            self._done[wanted] = done
            if done:
                self._began = self._began or time.monotonic()
                self._at_first.setdefault(wanted, done)
            made = self._made_before + sum(share == 1.0 for share in self._done.values())
            whole = sum(each.share for each in self._done)
            share = sum(each.share * part for each, part in self._done.items()) / whole
            text = f"{made} of {self._total} networks trained, {MOST} at a time"
            self._progress(share, text + self._left(whole * (1 - share)))

    def _left(self, work: float) -> str:
        """Estimate what ``work`` takes from what was done since the first epoch: loading and compiling come before."""
        done = sum(each.share * (self._done[each] - first) for each, first in self._at_first.items())
        minutes = (time.monotonic() - self._began) / done * work / 60 if done else 0.0
        return f", about {minutes:.0f} min left" if minutes >= 1 else ""
