"""What a build asks of pruning, and what is made ready for it: samples, a school, and who cuts."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgekit import keras_io
from edgekit.progress import Progress
from edgekit.prune.candidate import STUDENT, Cutter, Uncut
from edgekit.prune.keras.functional import as_functional
from edgekit.prune.keras.graph import analyze
from edgekit.prune.keras.importance import IMPORTANCE, Importance
from edgekit.prune.keras.signature import Arrays
from edgekit.prune.latency.costs import cost_named
from edgekit.prune.schooling import Schooling, check_alike, load, paced
from edgekit.prune.thinning.steps import Thinning

_RANKING_SAMPLES = 192
_EXACTNESS_SAMPLES = 8
_LIMITS = ("round_to", "min_channels", "max_layer_cut", "limits", "protect")


@dataclass(frozen=True)
class Order:
    """One pruning, as the plan gives it.

    dataset: what to learn from; with ``labelled`` its truth is used too. teacher: whom to learn from instead of the
    unpruned model. student: a network to teach instead of cutting. costs: the file of ``latency.costs``, where the
    plan has that step. precisions: in which low-rank pairs of layers must be faster. aim: ``accuracy_drop`` in
    points, ``speedup`` over the float model, ``latency_ms`` (or None), and ``slack``, the agreement a point is worth.
    others: more samples to distil on, without truth.
    """

    model: Path
    dataset: dict[str, Any]
    labelled: bool
    task: dict[str, Any]
    adapter: Path | None
    teacher: Path | None
    student: Path | None
    costs: Sequence[Path]
    precisions: list[str]
    settings: dict[str, Any]
    aim: dict[str, Any]
    others: dict[str, Any] | None = None

    @property
    def searches(self) -> bool:
        """Say whether the amount is left to edgekit: a student is taught as it is."""
        return self.settings["keep_macs"] == "auto" and self.student is None

    def schooling(self, work: Path, progress: Progress) -> Schooling:
        """Load the model and its samples; where the amount is searched for, train no longer than its minutes allow."""
        ready = load(
            progress, self.model, self.dataset, self.labelled, self.others, self.task, self.adapter, self.teacher,
            self.settings, self.aim,
        )  # fmt: skip
        return paced(ready, self.settings, work) if self.searches else ready

    def pupil(self, original: keras.Model) -> Uncut | None:
        """Return the student, if there is one. Raises RecipeError where it does not answer as the original does."""
        if self.student is None:
            return None
        student = as_functional(keras_io.load(self.student))
        check_alike(student, original, f"prune.student {self.student.name}")
        return Uncut(STUDENT, student, analyze(student).macs())

    def cutter(self, ready: Schooling, work: Path, progress: Progress) -> tuple[Cutter, dict[str, Any]]:
        """Rank the channels, once for all who use ``work``; return who cuts them, and what the report says of it."""
        settings = self.settings
        few = {name: array[:_RANKING_SAMPLES] for name, array in ready.inputs.items()}
        thinning = Thinning(
            few, work, low_rank=settings["low_rank"], energy=settings["low_rank_energy"],
            sparsity=settings["sparsity"], precisions=self.precisions,
        )  # fmt: skip
        progress(0.03, "finding channel groups")
        graph = analyze(ready.original)
        progress(0.05, f"ranking {graph.unit_count} channel groups")
        rank = IMPORTANCE[settings["importance"]]
        ranking = _remembered(
            work / "ranking.npy", graph.unit_count, lambda: rank(ready.original, graph, few, settings["seed"])
        )
        proof: Arrays = {name: array[:_EXACTNESS_SAMPLES] for name, array in few.items()}
        limits = {name: settings[name] for name in _LIMITS}
        cost, note = cost_named("macs" if settings["keep_macs"] == 1 else settings["cost"], graph, self.costs)
        cutter = Cutter(
            ready.original, graph, ranking, cost, limits, ready.school, proof, thinning, work, refits=settings["refit"]
        )
        return cutter, {
            "frozen": [f"{item.layer}: {item.reason}" for item in graph.frozen],
            "cost": cost.name,
            "notes": [note] if note else [],
        }


def _remembered(memo: Path, units: int, make: Callable[[], Importance]) -> Importance:
    """Return the ranking that ``memo`` holds, or make it and keep it there."""
    try:
        known: Importance = np.load(memo, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # none yet, or the disk damaged it
        known = np.empty(0)
    if known.shape == (units,):
        return known
    found = make()
    unfinished = memo.with_suffix(".unfinished")
    with unfinished.open("wb") as stream:
        np.save(stream, found)
    os.replace(unfinished, memo)
    return found
