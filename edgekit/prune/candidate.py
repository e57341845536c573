"""One amount of pruning, from the cut to the recovered network: done once, also where the build is killed between."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import keras

from edgekit import keras_io
from edgekit.errors import StageError
from edgekit.progress import Progress
from edgekit.prune.channels.graph import ChannelGraph
from edgekit.prune.judging.held import Judge
from edgekit.prune.keras import surgery
from edgekit.prune.keras.functional import copy_model
from edgekit.prune.keras.importance import Importance
from edgekit.prune.keras.signature import Arrays, sample_count
from edgekit.prune.recovery.batches import Lesson
from edgekit.prune.recovery.features import Hint, hints_of
from edgekit.prune.recovery.losses.teaching import Loss
from edgekit.prune.recovery.training import RecoverySettings, recover
from edgekit.prune.repair.least_squares import RefitSettings, refit
from edgekit.prune.selection.cost import Cost, Macs
from edgekit.prune.selection.greedy import Selection, select
from edgekit.prune.selection.limits import nothing_to_cut
from edgekit.prune.thinning.steps import Thinning

Whole = Literal["control", "student"]
What = float | Whole  # a share of the multiply-accumulates that stays, or a network that nothing is cut from

CONTROL: Whole = "control"
STUDENT: Whole = "student"
_EXACTNESS = 1e-5  # relative: float32 sums in another order
_NETWORK, _FACTS = "network.keras", "facts.json"


@dataclass(frozen=True)
class Candidate:
    """A recovered network and what is known of it. ``drop_points`` is None without held samples to judge by.

    ``exactness_error`` is None where nothing was cut: for controls and a user's own student.
    ``thinned``: what was done besides cutting channels, as the report tells it.
    """

    name: str
    keep: float
    file: Path
    seed: int
    macs: int
    parameters: int
    exactness_error: float | None
    epochs: int
    best_epoch: int
    seconds: float
    drop_points: float | None
    refit: str = ""  # what the closed-form repair kept
    unsolved: Sequence[str] = ()  # layers behind a cut that it has no equations for
    thinned: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class School:
    """Everything a recovery needs besides the student.

    kindred: the teacher has the layers and channels of the network that is cut, so that features compare.
    """

    teacher: keras.Model
    lesson: Lesson
    loss: Loss | None
    held: Lesson | None
    judge: Judge | None
    settings: RecoverySettings
    kindred: bool = True

    def teach(
        self, student: keras.Model, seed: int, progress: Progress, checkpoint: Path,
        hints: Sequence[Hint] = (), after_step: Callable[[], None] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Recover ``student`` in place; return epochs, best_epoch, seconds and drop_points."""
        done = None
        if self.settings.epochs:
            done = recover(
                student, self.teacher, self.lesson, self.loss, replace(self.settings, seed=seed), progress,
                held=self.held, hints=hints, checkpoint=checkpoint, after_step=after_step,
            )  # fmt: skip
            if after_step:
                after_step()  # averaged weights are not what the last step left
        return {
            "epochs": len(done.epochs) if done else 0,
            "best_epoch": done.best_epoch if done else 0,
            "seconds": done.seconds if done else 0.0,
            "drop_points": self.judge.drop(student) if self.judge else None,
        }


class Cutter:
    """Cuts one network to any amount and recovers it; each result is kept in ``work`` until the stage is done."""

    def __init__(
        self, original: keras.Model, graph: ChannelGraph, ranking: Importance, cost: Cost, limits: dict[str, Any],
        school: School, proof: Arrays, thinning: Thinning, work: Path, *, refits: bool,
    ) -> None:  # fmt: skip
        self.original, self.graph, self.ranking, self.cost, self.limits = original, graph, ranking, cost, limits
        self.school, self.proof, self.thinning, self.work, self.refits = school, proof, thinning, work, refits

    def choice(self, keep: float) -> Selection:
        """Choose the channels that stay; ``keep`` is a share of the multiply-accumulates."""
        return select(self.graph, self.ranking, self.cost, keep, keep_of=Macs(), **self.limits)

    def selection(self, keep: float) -> Selection:
        """Return ``choice``. Raises UnsupportedError where the limits leave nothing to cut."""
        selection = self.choice(keep)
        if keep < 1 and selection.macs_after >= selection.macs_before:
            raise nothing_to_cut(self.graph, self.limits)
        return selection

    def candidate(self, keep: float, seed: int, progress: Progress) -> Candidate:
        """Cut to ``keep`` of the multiply-accumulates, prove the cut exact, repair it in closed form, and recover.

        Low-rank pairs and zeros, where the recipe wants them, come between repair and recovery.
        """
        selection = self.selection(keep)
        name = name_of(keep, seed)

        def make(checkpoint: Path) -> tuple[keras.Model, dict[str, Any]]:
            cut = surgery.prune(self.original, self.graph, selection)
            error = self._proven(selection, cut)
            repair = self._refitted(selection, cut, seed, progress) if keep < 1 else {}
            thinned = self.thinning.thin(cut)
            network = thinned.network
            hints = hints_of(self.graph, selection) if self.school.kindred else ()
            taught = self.school.teach(network, seed, progress, checkpoint, hints, thinned.after_step)
            facts = {
                "macs": int(selection.macs_after) - thinned.macs_saved,
                "parameters": int(network.count_params()),
                "exactness_error": error,
                "thinned": thinned.facts,
            }
            return network, facts | repair | taught

        return _once(self.work / name, make, name=name, keep=keep, seed=seed)

    def _refitted(self, selection: Selection, network: keras.Model, seed: int, progress: Progress) -> dict[str, Any]:
        inputs = self.school.lesson.inputs
        if not self.refits or sample_count(inputs) < 2:
            return {}
        progress(0.0, "least squares, layer by layer")
        result = refit(network, self.original, self.graph, selection, inputs, RefitSettings(seed=seed))
        return {"refit": result.kept, "unsolved": list(result.unsolved)}

    def _proven(self, selection: Selection, network: keras.Model) -> float:
        error = surgery.verify_exact(self.original, self.graph, selection, network, self.proof)
        if not error <= _EXACTNESS:
            raise StageError(
                f"The cut network differs by {error:.1e} from the original with those channels zeroed "
                f"(limit {_EXACTNESS:.0e}).",
                "This is a bug in edgekit's surgery for this architecture; set prune.enabled = false meanwhile.",
            )
        return float(error)


def name_of(what: What, seed: int) -> str:
    """Return what a network is called: one cut to a share of its multiply-accumulates, the control or a student."""
    return f"{what}-seed-{seed}" if isinstance(what, str) else f"keep-{what:.4f}-seed-{seed}"


def is_made(folder: Path) -> bool:
    """Say whether a network is done; its facts are written last."""
    return (folder / _FACTS).is_file()


@dataclass(frozen=True)
class Uncut:
    """A network that is trained as it is: the unpruned one, as the control, or the user's own student."""

    what: Whole
    network: keras.Model
    macs: int

    def candidate(self, school: School, seed: int, progress: Progress, work: Path) -> Candidate:
        """Teach a copy of it."""
        folder = work / name_of(self.what, seed)

        def make(checkpoint: Path) -> tuple[keras.Model, dict[str, Any]]:
            network = copy_model(self.network)
            taught = school.teach(network, seed, progress, checkpoint)
            facts = {"macs": self.macs, "parameters": int(network.count_params()), "exactness_error": None}
            return network, facts | taught

        return _once(folder, make, name=folder.name, keep=1.0, seed=seed)


def _once(
    folder: Path, make: Callable[[Path], tuple[keras.Model, dict[str, Any]]], *, name: str, keep: float, seed: int
) -> Candidate:
    """Return what ``folder`` holds of an earlier try, or make it; its facts are written last, in one piece."""
    file, facts = folder / _NETWORK, folder / _FACTS
    if not is_made(folder):
        network, found = make(folder / "training.npz")
        keras_io.save(network, file)
        unfinished = facts.with_suffix(".unfinished")
        unfinished.write_text(json.dumps({"name": name, "keep": keep, "seed": seed, **found}))
        os.replace(unfinished, facts)
        (folder / "training.npz").unlink(missing_ok=True)
    return Candidate(file=file, **json.loads(facts.read_text()))
