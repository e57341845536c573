"""Score one artifact: run it in its own runtime on the test samples, with the task's metric."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edgekit import tasks
from edgekit.artifact import TensorSpec
from edgekit.dataset import Dataset, Preprocess, open_dataset
from edgekit.errors import StageError
from edgekit.profile.device_model import on_device
from edgekit.progress import Progress
from edgekit.report.schema import Accuracy
from edgekit.runtimes import open_model
from edgekit.tasks.predictions import load_predictions, save_predictions

Prediction = dict[str, npt.NDArray[Any]]
PREDICTIONS = "predictions.npz"
HERE = "local"
_THREADS = 1  # steps run side by side; what is scored here is not timed
_REPORTS = 20


class _Callable(Protocol):
    """What scoring needs of a runtime, here or on a device."""

    runtime: str
    version: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]

    def run(self, arrays: list[Any]) -> list[Any]: ...


def run(
    *, out: Path, progress: Progress, artifact: Path, format: str, dataset: dict[str, Any],
    task: dict[str, Any], baseline: Path | None, resamples: int, seed: int, device: str = HERE,
) -> dict[str, Any]:  # fmt: skip
    """Return the fields of ``Accuracy`` and write ``out/predictions.npz`` for later artifacts.

    ``dataset``: kind, path, labels, classes, preprocess; ``task``: the recipe's table; ``baseline``: the
    predictions.npz of the float model, or None for the float model itself; ``device``: where to run it.
    Raises RecipeError where labels are missing or outputs are not what the task reads; StageError where an
    output is NaN or infinite, or the baseline saw other samples.
    """
    scorer = tasks.load(task["kind"], task.get("adapter"))
    samples = opened(dataset, labelled=task["kind"] != "generic")
    truth = samples.truth
    scorer.check_truth(truth, samples.classes)
    identity = sample_set(samples)
    before = load_predictions(baseline, identity) if baseline else None
    task = {**task, "classes": samples.classes}
    predictions: list[Prediction] = []
    with _model(artifact, format, device) as session:
        for index in range(len(samples)):
            predictions.append(scorer.decode(_outputs(session, samples, index, artifact.name), task))
            _tell(progress, index + 1, len(samples))
    save_predictions(out / PREDICTIONS, predictions, identity)
    if task["kind"] == "generic":
        truth = before
    score = scorer.score(predictions, truth, samples.classes)
    drop = scorer.drop(before, predictions, truth, samples.classes, resamples, seed) if before else None
    return Accuracy(
        metric=score.metric,
        value=score.value,
        secondary=score.secondary,
        per_class=score.per_class,
        samples=len(samples),
        drop_points=drop and drop.points,
        drop_low_points=drop and drop.low_points,
        drop_high_points=drop and drop.high_points,
        runtime=session.runtime,
        runtime_version=session.version,
    ).model_dump()


def sample_set(samples: Dataset) -> str:
    """Return a hash of the samples' names, in order, and of their stored content."""
    names = [samples.name(index) for index in range(len(samples))]
    content = hashlib.sha256("\0".join([*names, *sorted(samples.fingerprints())]).encode())
    return content.hexdigest()


def opened(dataset: dict[str, Any], *, labelled: bool) -> Dataset:
    return open_dataset(
        dataset["kind"],
        dataset["path"],
        dataset["labels"],
        Preprocess.from_json(dataset["preprocess"]),
        labelled=labelled,
        classes=dataset["classes"],
    )


@contextmanager
def _model(artifact: Path, format: str, device: str) -> Iterator[_Callable]:
    if device == HERE:
        yield open_model(artifact, format, _THREADS)
    else:
        with on_device(device, artifact, format, _THREADS) as model:
            yield model


def _outputs(session: _Callable, samples: Dataset, index: int, artifact: str) -> Prediction:
    """Run sample ``index``; raise StageError naming the first output that is not finite."""
    inputs = samples.inputs(index, _specs(session.inputs))
    arrays = session.run([inputs[tensor["name"]] for tensor in session.inputs])
    outputs = {str(tensor["name"]): np.asarray(array) for tensor, array in zip(session.outputs, arrays, strict=True)}
    for name, array in outputs.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            bad = int(array.size - np.isfinite(array).sum())
            kind = "outputs NaN" if np.isnan(array).any() else "outputs infinite values"
            raise StageError(
                f"{artifact} {kind}: {bad} of {array.size} values of {name!r} at {samples.name(index)}.",
                "Such an artifact has no accuracy; edgekit diagnose shows the first layer that does it.",
            )
    return outputs


def _specs(tensors: Sequence[dict[str, Any]]) -> list[TensorSpec]:
    return [
        TensorSpec(tensor["name"], (1, *tensor["shape"][1:]) if tensor["shape"] else (), tensor["dtype"])
        for tensor in tensors
    ]


def _tell(progress: Progress, done: int, total: int) -> None:
    if done == total or done * _REPORTS // total != (done - 1) * _REPORTS // total:
        progress(done / total, f"scored {done} of {total} samples")
