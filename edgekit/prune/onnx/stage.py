"""The prune stage for ONNX: a float network in, a smaller one out, repaired in closed form. Nothing is trained."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from edgekit.artifact import TensorSpec
from edgekit.convert.onnx_file import from_onnx
from edgekit.dataset import Dataset, Preprocess, open_dataset
from edgekit.errors import StageError, UnsupportedError
from edgekit.progress import Progress
from edgekit.prune import amount
from edgekit.prune.channel_graph import ChannelGraph
from edgekit.prune.cost import COUNTED, Cost, Macs
from edgekit.prune.judging import PointsLost
from edgekit.prune.onnx import surgery
from edgekit.prune.onnx.analysis import analyze
from edgekit.prune.onnx.execute import Arrays, answers, difference
from edgekit.prune.onnx.importance import IMPORTANCE
from edgekit.prune.onnx.least_squares import RefitSettings, refit
from edgekit.prune.onnx.network import Network, read
from edgekit.prune.onnx.walk import bytes_each
from edgekit.prune.selection import Selection, select
from edgekit.prune.split import Split

MODEL = "pruned.onnx"
_EXACTNESS = 1e-5  # relative: float32 sums in another order
_EXACTNESS_SAMPLES = 4
_RANKING_SAMPLES, _LEAST_RANKING = 192, 16
_RANKING_BYTES = 1 << 30  # of activations held at once
_LIMITS = ("round_to", "min_channels", "max_layer_cut", "limits", "protect")


def run(
    *, out: Path, progress: Progress, model: Path, dataset: dict[str, Any], labelled: bool, task: dict[str, Any],
    settings: dict[str, Any], aim: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Cut channels, prove the cut exact, repair what is left by least squares; write ``pruned.onnx``, batch 1.

    ``dataset``: samples to repair by, some of which are held apart and judge amounts; with ``labelled`` by their
    truth, else by agreement with the unpruned model. ``aim``: ``accuracy_drop`` in points, and ``slack``, the
    agreement a point is worth. Where no amount stays within it, the network is written as it was. Raises
    UnsupportedError where a given amount cannot be cut, StageError where a cut is not exact.
    """
    began = time.monotonic()
    progress(0.0, "reading the ONNX file")
    content = from_onnx(model)
    network = read(content)
    progress(0.05, "finding channel groups")
    graph = analyze(network)
    samples = open_dataset(
        dataset["kind"], dataset["path"], dataset["labels"], Preprocess.from_json(dataset["preprocess"]),
        labelled=labelled, classes=dataset["classes"],
    )  # fmt: skip
    inputs = samples.stacked(_specs(network))
    answers(content, {name: array[:1] for name, array in inputs.items()})  # raises where the file cannot run
    split = Split.of(len(samples))
    count = min(_RANKING_SAMPLES, max(_LEAST_RANKING, _RANKING_BYTES // max(bytes_each(network), 1)))
    few = {name: array[split.train[:count]] for name, array in inputs.items()}
    progress(0.1, f"ranking {graph.unit_count} channel groups")
    ranking = IMPORTANCE[settings["importance"]](network, graph, few, settings["seed"])
    judge = _Judge.of(content, inputs, samples, split, labelled, task, aim) if len(split.held) else None
    learned = {name: array[split.train] for name, array in inputs.items()}
    cost = COUNTED["macs" if settings["cost"] == "latency" else settings["cost"]]()
    cutter = _Cutter(network, graph, ranking, cost, settings, learned, judge)
    found = cutter.given(progress) if settings["keep_macs"] != "auto" else cutter.searched(aim, progress)
    best, note = cutter.chosen(found, aim, auto=settings["keep_macs"] == "auto")
    (out / MODEL).write_bytes(best.content if best else content)
    return {
        "frozen": [f"{item.layer}: {item.reason}" for item in graph.frozen],
        "cost": cost.name,
        "notes": [note] if note else [],
        "macs_before": graph.macs(),
        "macs_after": best.selection.macs_after if best else graph.macs(),
        "parameters_before": network.parameters,
        "parameters_after": read(best.content).parameters if best else network.parameters,
        "exactness_error": best.exactness_error if best else 0.0,
        "recovery": f"closed form, no training: {best.refit or 'none'}" if best else "none: nothing was cut",
        "recovery_epochs": 0,
        "chosen": best.name if best else "",
        "judged_by": f"{judge.lost.by}, against the unpruned model" if judge else "",
        "tried": [_tried(made) for made in found],
        "widths": [[list(w.layers), w.before, w.after] for w in best.selection.widths] if best else [],
        "minutes": sum(made.seconds for made in found) / 60,
        "stage_minutes": (time.monotonic() - began) / 60,
        "training_samples": len(split.train),
    }


def _specs(network: Network) -> tuple[TensorSpec, ...]:
    types = {value.name: value.type.tensor_type.elem_type for value in network.proto.graph.input}
    return tuple(
        TensorSpec(
            name, tuple(size or 1 for size in network.shapes[name]), helper.tensor_dtype_to_np_dtype(types[name]).name
        )
        for name in network.inputs
    )


@dataclass(frozen=True)
class _Made:
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


def _tried(made: _Made) -> dict[str, Any]:
    return {
        "name": made.name, "keep": made.keep, "seed": made.seed, "macs": made.selection.macs_after,
        "parameters": made.selection.params_after, "epochs": 0, "best_epoch": 0, "seconds": made.seconds,
        "refit": made.refit, "unsolved": list(made.unsolved), "drop_points": made.drop_points,
    }  # fmt: skip


@dataclass(frozen=True)
class _Judge:
    """Held samples, and what the unpruned network makes of them."""

    inputs: Arrays
    lost: PointsLost

    @staticmethod
    def of(
        content: bytes, inputs: Arrays, samples: Dataset, split: Split, labelled: bool, task: dict[str, Any],
        aim: dict[str, Any],
    ) -> _Judge:  # fmt: skip
        held = {name: array[split.held] for name, array in inputs.items()}
        truth: Any = None
        if labelled and samples.truth is not None:
            truth = [samples.truth[number] for number in split.held]
            truth = np.asarray(truth) if np.ndim(truth[0]) == 0 else truth
        return _Judge(held, PointsLost(answers(content, held), truth, samples.classes, task, aim["slack"]))


@dataclass(frozen=True)
class _Cutter:
    """Cuts one network to any amount and repairs it."""

    network: Network
    graph: ChannelGraph
    ranking: Any
    cost: Cost
    settings: dict[str, Any]
    inputs: Arrays
    judge: _Judge | None

    def given(self, progress: Progress) -> list[_Made]:
        """Cut to the amount that the recipe names. Raises UnsupportedError where nothing can be cut."""
        selection = self._choice(self.settings["keep_macs"])
        if selection.macs_after >= selection.macs_before:
            raise UnsupportedError(
                self._nothing_to_cut(), "Lower prune.min_channels or prune.round_to, or set prune.enabled = false."
            )
        return [self._made(self.settings["keep_macs"], selection, progress, 0.2)]

    def searched(self, aim: dict[str, Any], progress: Progress) -> list[_Made]:
        """Bisect the amount until the border of the accuracy budget is known, or the time is over."""
        found: list[_Made] = []
        left = {self.graph.macs()}
        if self.judge is None:
            return found
        while (keep := amount.next_share([_probe(made) for made in found], aim["accuracy_drop"])) is not None:
            used = sum(made.seconds for made in found)
            selection = self._choice(keep)
            over = found and used + found[-1].seconds > self.settings["minutes"] * 60
            if over or selection.macs_after in left:
                break
            left.add(selection.macs_after)
            found.append(self._made(keep, selection, progress, 0.2 + 0.7 * (1 - 0.7 ** len(found))))
        return found

    def chosen(self, found: Sequence[_Made], aim: dict[str, Any], *, auto: bool) -> tuple[_Made | None, str]:
        """Return the network to go on with, None for the unpruned one, and what the user should know of that."""
        if not auto:
            return found[0], ""
        if self.judge is None:
            return None, "Nothing was pruned: too few samples to hold any apart; give more, or prune.keep_macs = 0.5."
        if not found:
            return None, self._nothing_to_cut()
        probe = amount.best([_probe(made) for made in found], aim["accuracy_drop"])
        best = next(made for made in found if made.keep == probe.keep)
        if probe.drop_points > aim["accuracy_drop"]:
            return None, (
                f"Nothing was pruned: {len(found)} amounts were tried, and the best of them, "
                f"{best.selection.macs_after / best.selection.macs_before:.0%} of the multiply-accumulates, lost "
                f"{probe.drop_points:.1f} points of {aim['accuracy_drop']:.1f} on held samples."
            )
        return best, ""

    def _choice(self, keep: float) -> Selection:
        limits = {name: self.settings[name] for name in _LIMITS}
        return select(self.graph, self.ranking, self.cost, keep, keep_of=Macs(), **limits)

    def _nothing_to_cut(self) -> str:
        reasons = "; ".join(sorted({item.reason for item in self.graph.frozen})[:3])
        return f"No channel of this model can be cut with these settings. {reasons}".strip()

    def _made(self, keep: float, selection: Selection, progress: Progress, done: float) -> _Made:
        began = time.monotonic()
        progress(done, f"keeping {keep:.0%} of the multiply-accumulates: cutting")
        kept = selection.mask(self.graph)
        cut = surgery.pruned(self.network, self.graph, kept)
        proof = {name: array[:_EXACTNESS_SAMPLES] for name, array in self.inputs.items()}
        error = difference(answers(surgery.zeroed(self.network, self.graph, kept), proof), answers(cut, proof))
        if not error <= _EXACTNESS:
            raise StageError(
                f"The cut network differs by {error:.1e} from the original with those channels zeroed "
                f"(limit {_EXACTNESS:.0e}).",
                "This is a bug in edgekit's surgery for this architecture; set prune.enabled = false meanwhile.",
            )
        repair, content = "", cut
        unsolved: tuple[str, ...] = ()
        if self.settings["refit"] and len(next(iter(self.inputs.values()))) > 1:
            progress(done, f"keeping {keep:.0%} of the multiply-accumulates: least squares, layer by layer")
            repaired = refit(
                cut, self.network, self.graph, selection, self.inputs, RefitSettings(seed=self.settings["seed"])
            )
            repair, unsolved, content = repaired.kept, repaired.unsolved, repaired.content
        drop = self.judge.lost.of(answers(content, self.judge.inputs)) if self.judge else None
        seed = self.settings["seed"]
        return _Made(
            f"keep-{keep:.4f}-seed-{seed}", keep, content, selection, error, repair, unsolved, drop,
            time.monotonic() - began, seed,
        )  # fmt: skip


def _probe(made: _Made) -> amount.Probe:
    return amount.Probe(made.keep, made.drop_points if made.drop_points is not None else 0.0)
