"""The prune stage for ONNX: a float network in, a smaller one out, repaired in closed form. Nothing is trained."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import helper

from edgekit.artifact import TensorSpec
from edgekit.convert.onnx_file import from_onnx
from edgekit.dataset import Preprocess, open_dataset
from edgekit.progress import Progress
from edgekit.prune.judging.split import Split
from edgekit.prune.latency.costs import cost_named, predictions
from edgekit.prune.onnx.analysis import analyze
from edgekit.prune.onnx.cutter import Cut, Cutter, Judge
from edgekit.prune.onnx.execute import answers
from edgekit.prune.onnx.importance import IMPORTANCE
from edgekit.prune.onnx.network import Network, read
from edgekit.prune.onnx.walk import bytes_each
from edgekit.prune.selection.search import Search, best

MODEL = "pruned.onnx"
_RANKING_SAMPLES, _LEAST_RANKING = 192, 16
_RANKING_BYTES = 1 << 30  # of activations held at once
_READY = 0.2  # of the progress: everything before the first cut


def run(
    *, out: Path, progress: Progress, model: Path, dataset: dict[str, Any], labelled: bool, task: dict[str, Any],
    costs: Sequence[Path], settings: dict[str, Any], aim: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Cut channels, prove the cut exact, repair what is left by least squares; write ``pruned.onnx``, batch 1.

    ``dataset``: samples to repair by, some of which are held apart and judge amounts; with ``labelled`` by their
    truth, else by agreement with the unpruned model. ``costs``: the file of ``latency.costs``, where the plan has
    that step. ``aim``: ``accuracy_drop`` in points, ``speedup`` over the float model and ``latency_ms`` (or None),
    and ``slack``, the agreement a point is worth. Where no amount stays within it, the network is written as it
    was. Raises UnsupportedError where a given amount cannot be cut, StageError where a cut is not exact.
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
    judge = Judge.of(content, inputs, samples, split, labelled, task, aim) if len(split.held) else None
    learned = {name: array[split.train] for name, array in inputs.items()}
    cost, note = cost_named(settings["cost"], graph, costs)
    cutter = Cutter(network, graph, ranking, cost, settings, learned, judge)
    found = _found(cutter, aim, lambda done, what: progress(_READY + (1 - _READY) * done, what))
    chosen = found.chosen
    (out / MODEL).write_bytes(chosen.content if chosen else content)
    kept = chosen.selection.mask(graph) if chosen else graph.all_kept()
    return {
        "frozen": [f"{item.layer}: {item.reason}" for item in graph.frozen],
        "cost": cost.name,
        "predicted": predictions(cost, graph, kept) if chosen else [],
        "notes": [text for text in (note, found.note) if text],
        "macs_before": graph.macs(),
        "macs_after": graph.macs(kept),
        "parameters_before": network.parameters,
        "parameters_after": read(chosen.content).parameters if chosen else network.parameters,
        "exactness_error": chosen.exactness_error if chosen else None,
        "recovery": f"closed form, no training: {chosen.refit or 'none'}" if chosen else "none: nothing was cut",
        "recovery_epochs": 0,
        "chosen": chosen.name if chosen else "",
        "judged_by": f"{judge.lost.by}, against the unpruned model" if judge else "",
        "tried": [made.facts() for made in found.made],
        "widths": [[list(w.layers), w.before, w.after] for w in chosen.selection.widths] if chosen else [],
        "minutes": sum(made.seconds for made in found.made) / 60,
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
class _Found:
    """Every network that was made, the one to go on with (None: the unpruned one), and what to know of that."""

    made: Sequence[Cut]
    chosen: Cut | None
    note: str = ""


def _found(cutter: Cutter, aim: dict[str, Any], progress: Progress) -> _Found:
    settings, allowed = cutter.settings, aim["accuracy_drop"]
    amounts = Search(cutter.graph, cutter.cost, cutter.choice, cutter.cut)
    keep = amounts.given(settings, aim)
    if why := amounts.idle(keep, settings, judged=cutter.judge is not None):
        return _Found((), None, why)
    if keep is not None:
        made = cutter.cut(keep, progress)
        return _Found((made,), made)
    found = amounts.by_accuracy(allowed, settings["minutes"], progress)
    made = best(found, allowed)
    if made.drop_points is None or made.drop_points <= allowed:
        return _Found(found, made)
    share = made.selection.macs_after / made.selection.macs_before
    return _Found(
        found, None,
        f"Nothing was pruned: {len(found)} amounts were tried, and the best of them, {share:.0%} of the "
        f"multiply-accumulates, lost {made.drop_points:.1f} points of {allowed:.1f} on held samples.",
    )  # fmt: skip
