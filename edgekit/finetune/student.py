"""The student: the model after fine-tuning, as a float graph that a search takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import keras_io
from edgekit.artifact import TensorSpec
from edgekit.convert import stage as convert
from edgekit.convert.hand_off import INPUTS, REFERENCE
from edgekit.dataset import Dataset, Preprocess, open_dataset
from edgekit.finetune.samples import Samples
from edgekit.finetune.training import Settings, Trained, train
from edgekit.progress import Progress
from edgekit.prune.keras.signature import Arrays, input_names
from edgekit.quantize.plan import Plan
from edgekit.search import stage as search
from edgekit.search.problem import SENSITIVE
from edgekit.search.stage import Split

MODEL = "model.keras"


def fine_tune(
    folder: Path, progress: Progress, model: Path, dataset: dict[str, Any], samples: int, parity_samples: int,
    settings: dict[str, Any], plans: list[Plan],
) -> dict[str, Any]:  # fmt: skip
    """Train a copy of ``model`` and write its float graph to ``folder``, if it came closer; return what happened.

    ``samples``: how many a search calibrates on, which tells what it judges on: that is not looked at here.
    ``plans``: of the searches that missed; what all of them leave float is not rounded while training either.
    """
    keras_io.deterministic(settings["seed"])
    progress(0.0, "loading the model")
    network = keras_io.load(model)
    data = open_dataset(
        dataset["kind"], dataset["path"], None, Preprocess.from_json(dataset["preprocess"]), labelled=False
    )
    chosen = Samples.of(len(data), Split.of(len(data), samples).held)
    result = train(
        network, keras_io.load(model), _stacked(data, network, chosen.train), _stacked(data, network, chosen.watch),
        Settings(**settings, left_float=_left_float(network, plans)), lambda done, text: progress(0.9 * done, text),
    )  # fmt: skip
    if result.best_epoch:
        progress(0.95, "exporting the float graph")
        keras_io.save(network, folder / MODEL)
        convert.float_model(
            out=folder, progress=_untold, model=folder / MODEL, source="keras", dataset=dataset,
            samples=parity_samples,
        )  # fmt: skip
    return _summary(result, chosen)


def _left_float(network: Any, plans: list[Plan]) -> frozenset[str]:
    """Return the layers whose weighted or adding op every plan leaves float for accuracy's sake.

    Ops are named after the layer they came from, with a number behind; one that is not is trained for int8.
    """
    names = {str(layer.name) for layer in network._flatten_layers(include_self=False)}
    found = []
    for plan in plans:
        ops = [item.op for item in plan.decisions if item.reason == SENSITIVE]
        found.append({name for op in ops if (name := re.sub(r"_\d+$", "", op)) in names})
    return frozenset(set.intersection(*found))


def _summary(result: Trained, chosen: Samples) -> dict[str, Any]:
    return {
        "trained": bool(result.best_epoch),
        "samples": len(chosen.train),
        "watched_samples": len(chosen.watch),
        "epochs": len(result.epochs),
        "best_epoch": result.best_epoch,
        "distance_before": result.before,
        "distance_after": result.after,
    }


def _stacked(data: Dataset, network: Any, positions: tuple[int, ...]) -> Arrays:
    """Return samples by position, every input as (N, ...)."""
    specs = [
        TensorSpec(name, (1, *(int(size) for size in tensor.shape[1:])), str(tensor.dtype))
        for name, tensor in zip(input_names(network), network.inputs, strict=True)
    ]
    read = [data.inputs(index, specs) for index in positions]
    return {spec.name: np.concatenate([sample[spec.name] for sample in read]) for spec in specs}


def search_again(
    folder: Path, progress: Progress, model: Path, format: str, student: Path, tolerance: float,
    searching: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Convert the student, and search on it with the answers of the float ``model`` as the aim."""
    progress(0.0, f"converting the fine-tuned model to {format}")
    convert.float_artifact(
        out=folder, progress=_untold, saved_model=student / convert.SAVED_MODEL,
        reference=student / REFERENCE, inputs=student / INPUTS, format=format, precision="float32", tolerance=tolerance,
    )  # fmt: skip
    tuned = (folder / f"model.{format}").rename(folder / f"fine-tuned.{format}")
    return search.run(
        out=folder, progress=lambda done, text: progress(0.1 + 0.9 * done, text), model=tuned, format=format,
        reference=model, **searching,
    )  # fmt: skip


def _untold(done: float, text: str) -> None:
    """Take the progress of a part that is short."""
