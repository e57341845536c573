"""One amount of pruning of an ONNX network: cut, proven exact, repaired in closed form, judged."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.dataset import Dataset
from edgekit.errors import StageError, UnsupportedError
from edgekit.progress import Progress
from edgekit.prune.channels.graph import ChannelGraph
from edgekit.prune.judging.judge import PointsLost
from edgekit.prune.judging.split import Split
from edgekit.prune.onnx import surgery
from edgekit.prune.onnx.execute import Arrays, answers, difference
from edgekit.prune.onnx.least_squares import RefitSettings, refit
from edgekit.prune.onnx.network import Network
from edgekit.prune.selection.cost import Cost, Macs
from edgekit.prune.selection.greedy import Selection, select
from edgekit.prune.selection.limits import nothing_to_cut

_EXACTNESS = 1e-5  # relative: float32 sums in another order
_ROUNDING, _LAYERS, _LARGEST_ECHO = 1e-6, 10.0, 1e-3  # noise on the inputs, how often layers add as much, the bound
_EXACTNESS_SAMPLES = 4
_LIMITS = ("round_to", "min_channels", "max_layer_cut", "limits", "protect")


@dataclass(frozen=True)
class Cut:
    """One cut and repaired network. ``drop_points`` is None without held samples to judge by."""

    name: str
    keep: float
    content: bytes
    selection: Selection
    exactness_error: float
    refit: str
    unsolved: tuple[str, ...]
    drop_points: float | None
    seconds: float
    seed: int

    def facts(self) -> dict[str, Any]:
        """Return the figures a report needs, as plain JSON values."""
        return {
            "name": self.name, "keep": self.keep, "seed": self.seed, "macs": self.selection.macs_after,
            "parameters": self.selection.params_after, "epochs": 0, "best_epoch": 0, "seconds": self.seconds,
            "refit": self.refit, "unsolved": list(self.unsolved), "drop_points": self.drop_points,
        }  # fmt: skip


@dataclass(frozen=True)
class Judge:
    """Held samples, and what the unpruned network makes of them."""

    inputs: Arrays
    lost: PointsLost

    @staticmethod
    def of(
        content: bytes, inputs: Arrays, samples: Dataset, split: Split, labelled: bool, task: dict[str, Any],
        aim: dict[str, Any],
    ) -> Judge:  # fmt: skip
        held = {name: array[split.held] for name, array in inputs.items()}
        truth: Any = None
        if labelled and samples.truth is not None:
            truth = [samples.truth[number] for number in split.held]
            truth = np.asarray(truth) if np.ndim(truth[0]) == 0 else truth
        return Judge(held, PointsLost(answers(content, held), truth, samples.classes, task, aim["slack"]))


@dataclass(frozen=True)
class Cutter:
    """Cuts one network to any amount and repairs it by ``inputs``."""

    network: Network
    graph: ChannelGraph
    ranking: Any
    cost: Cost
    settings: dict[str, Any]
    inputs: Arrays
    judge: Judge | None

    def choice(self, keep: float) -> Selection:
        """Choose the channels that stay; ``keep`` is a share of the multiply-accumulates."""
        limits = {name: self.settings[name] for name in _LIMITS}
        return select(self.graph, self.ranking, self.cost, keep, keep_of=Macs(), **limits)

    def nothing_to_cut(self) -> UnsupportedError:
        """Return the error that says that nothing can be cut, and why."""
        return nothing_to_cut(self.graph, self.settings)

    def cut(self, keep: float, progress: Progress) -> Cut:
        """Cut to ``keep`` of the multiply-accumulates. Raises UnsupportedError where nothing can be cut, StageError
        where the cut is not exact."""
        began = time.monotonic()
        progress(0.0, "cutting")
        selection = self.choice(keep)
        if selection.macs_after >= selection.macs_before:
            raise self.nothing_to_cut()
        content, error = self._proven(selection)
        repair, seed = "", self.settings["seed"]
        unsolved: tuple[str, ...] = ()
        if self.settings["refit"] and len(next(iter(self.inputs.values()))) > 1:
            progress(0.1, "least squares, layer by layer")
            repaired = refit(content, self.network, self.graph, selection, self.inputs, RefitSettings(seed=seed))
            repair, unsolved, content = repaired.kept, repaired.unsolved, repaired.content
        drop = self.judge.lost.of(answers(content, self.judge.inputs)) if self.judge else None
        return Cut(
            f"keep-{keep:.4f}-seed-{seed}", keep, content, selection, error, repair, unsolved, drop,
            time.monotonic() - began, seed,
        )  # fmt: skip

    def _proven(self, selection: Selection) -> tuple[bytes, float]:
        """Return the cut network and how far it is from the original with those channels zeroed, relative.

        A deep network, above all one with attention, makes more of rounding errors than others: a few times what it
        makes of them on its inputs is no error of the cut.
        """
        kept = selection.mask(self.graph)
        cut = surgery.pruned(self.network, self.graph, kept)
        proof = {name: array[:_EXACTNESS_SAMPLES] for name, array in self.inputs.items()}
        zeroed = surgery.zeroed(self.network, self.graph, kept)
        expected = answers(zeroed, proof)
        error, limit = difference(expected, answers(cut, proof)), _EXACTNESS
        if not error <= limit:
            echo = difference(expected, answers(zeroed, _noisy(proof, self.settings["seed"])))
            limit = max(limit, min(_LAYERS * echo, _LARGEST_ECHO))
        if not error <= limit:
            raise StageError(
                f"The cut network differs by {error:.1e} from the original with those channels zeroed "
                f"(limit {limit:.0e}).",
                "This is a bug in edgekit's surgery for this architecture; set prune.enabled = false meanwhile.",
            )
        return cut, error


def _noisy(inputs: Arrays, seed: int) -> Arrays:
    """Return floating inputs with rounding errors, as large as a few layers of float32 sums make."""
    random = np.random.default_rng(seed)
    return {
        name: (array * (1 + random.uniform(-_ROUNDING, _ROUNDING, array.shape))).astype(array.dtype)
        if np.issubdtype(array.dtype, np.floating)
        else array
        for name, array in inputs.items()
    }
