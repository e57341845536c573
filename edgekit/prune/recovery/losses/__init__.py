"""What teaches a pruned network besides the unpruned one: the recipe's adapter, its compiled loss, or a built-in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgekit.dataset import Dataset
from edgekit.prune.keras.signature import predict
from edgekit.prune.recovery.losses.classification import cross_entropy, scored_output
from edgekit.prune.recovery.losses.compiled import by_compiled_loss
from edgekit.prune.recovery.losses.dense import boxes_scores, rows
from edgekit.prune.recovery.losses.heatmap import heatmap
from edgekit.prune.recovery.losses.own import by_adapter
from edgekit.prune.recovery.losses.teaching import Arrays, Loss, Teaching, no_labels
from edgekit.prune.recovery.losses.truth import check_classes, is_boxes, padded_boxes
from edgekit.source.keras_file import compiled_loss
from edgekit.tasks.decoders import RAW

__all__ = ["DETECTION", "Teaching", "teaching"]

DETECTION: dict[str, tuple[str, Callable[[Arrays, dict[str, Any]], Loss]]] = {
    "boxes_scores": ("task-aligned scores and boxes", boxes_scores),
    "rows": ("task-aligned scores and boxes", rows),
    "heatmap": ("focal loss on the heat, L1 on sizes", heatmap),
}
_LOOKED_AT = 16  # samples whose outputs tell the shapes, and probabilities from logits


def teaching(
    model: keras.Model,
    inputs: Arrays,
    samples: Dataset,
    labelled: bool,
    task: dict[str, Any],
    adapter: Path | None,
    source: Path | None = None,
) -> Teaching:
    """Choose what teaches: the adapter where the recipe names one, else the compiled loss, else the task's built-in.

    model: the trained, unpruned one. inputs: all samples by input name. source: the file the model was read
    from, whose compiled loss counts. Without labels or a loss, the Teaching says why and distillation is alone.
    Raises RecipeError where labels or outputs are not what the recipe says.
    """
    if not labelled or samples.truth is None:
        return no_labels("the recipe names no labelled training samples")
    if adapter is not None:
        return by_adapter(adapter, inputs, samples.truth)
    outputs = predict(model, {name: array[:_LOOKED_AT] for name, array in inputs.items()})
    task = {**task, "classes": samples.classes}
    if is_boxes(samples.truth):
        return _detection(outputs, samples.truth, task)
    truth = np.asarray(samples.truth)
    compiled = by_compiled_loss(compiled_loss(source) if source else None, outputs, truth, task)
    if compiled.loss is None and task["kind"] == "classification":
        return _classification(outputs, truth)
    return compiled


def _classification(outputs: Arrays, truth: Any) -> Teaching:
    if truth.ndim != 1 or not np.issubdtype(truth.dtype, np.integer):
        return no_labels(f"the training labels are {truth.dtype} {truth.shape[1:]}, not one class number per sample")
    check_classes(truth, outputs[scored_output(outputs)][0].size)
    return Teaching("labels (cross-entropy)", {"class": truth.astype(np.int64)}, cross_entropy(outputs))


def _detection(outputs: Arrays, truth: Any, task: dict[str, Any]) -> Teaching:
    if task["kind"] != "detection":
        return no_labels(f"a task of kind {task['kind']!r} has no built-in loss for boxes")
    decoder = task.get("decoder", "boxes_scores")
    if decoder not in DETECTION:
        return no_labels(f"the network of decoder {decoder!r} suppresses boxes itself, and no gradient passes that")
    _, scores = RAW[decoder]({name: array[:1] for name, array in outputs.items()}, task)  # raises where it cannot
    padded = padded_boxes(truth)
    check_classes(padded["classes"], scores.shape[1])
    text, make = DETECTION[decoder]
    return Teaching(f"labels ({text})", padded, make(outputs, task))
