"""Score a detector that puts boxes in pixels and scores into one output, as many exported detectors do."""

from pathlib import Path
from typing import Any

from edgekit.artifact import TensorSpec
from edgekit.dataset import Preprocess, open_dataset
from edgekit.profile.accuracy import PREDICTIONS, sample_set
from edgekit.progress import Progress
from edgekit.report.schema import Accuracy
from edgekit.runtimes import open_model
from edgekit.tasks import detection
from edgekit.tasks.predictions import load_predictions, save_predictions

BOX_VALUES = 4  # the rest of a row are its scores


def score(
    *, out: Path, progress: Progress, artifact: Path, format: str, dataset: dict[str, Any],
    task: dict[str, Any], baseline: Path | None, resamples: int, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Take the one output apart, then do what ``edgekit.profile.accuracy.run`` does, with the same arguments."""
    preprocess = Preprocess.from_json(dataset["preprocess"])
    samples = open_dataset(
        dataset["kind"], dataset["path"], dataset["labels"], preprocess, labelled=True, classes=dataset["classes"]
    )
    session = open_model(artifact, format)
    specs = [TensorSpec(tensor["name"], tuple(tensor["shape"]), tensor["dtype"]) for tensor in session.inputs]
    task = {**task, "boxes_output": "boxes", "scores_output": "scores", "classes": samples.classes}
    predictions = []
    for sample in samples.batches(specs):
        (joined,) = session.run([sample[spec.name] for spec in specs])
        parts = {"boxes": joined[..., :BOX_VALUES], "scores": joined[..., BOX_VALUES:]}
        predictions.append(detection.decode(parts, task))
    identity = sample_set(samples)
    save_predictions(out / PREDICTIONS, predictions, identity)
    found = detection.score(predictions, samples.truth, samples.classes)
    drop = None
    if baseline is not None:
        before = load_predictions(baseline, identity)
        drop = detection.drop(before, predictions, samples.truth, samples.classes, resamples, seed)
    return Accuracy(
        metric=found.metric,
        value=found.value,
        secondary=found.secondary,
        per_class=found.per_class,
        samples=len(samples),
        drop_points=drop and drop.points,
        drop_low_points=drop and drop.low_points,
        drop_high_points=drop and drop.high_points,
        runtime=session.runtime,
        runtime_version=session.version,
    ).model_dump()
