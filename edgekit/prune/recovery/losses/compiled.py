"""The loss the network was compiled with, where the file holds it and the labels have its shape."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edgekit.prune.recovery.losses.classification import scored_output
from edgekit.prune.recovery.losses.standard import CATEGORICAL, standard
from edgekit.prune.recovery.losses.teaching import Arrays, Encode, Loss, Teaching, Tensors, no_labels

Array = npt.NDArray[Any]


def by_compiled_loss(described: Any, outputs: Arrays, truth: Array, task: dict[str, Any]) -> Teaching:
    """Return how the compiled loss teaches; without one that fits, a Teaching whose text says why.

    described: the ``loss`` of the compile configuration. outputs: of some samples, in the model's order.
    """
    if described is None:
        return no_labels("the model was saved without a compiled loss")
    classifies = task["kind"] == "classification"
    described_by_output = _by_output(described, list(outputs))
    if classifies:
        best = scored_output(outputs)
        described_by_output = {name: one for name, one in described_by_output.items() if name == best}
    found: dict[str, tuple[keras.losses.Loss, Encode]] = {}
    reasons = []
    for name, one in described_by_output.items():
        if isinstance(loss := standard(one), str):
            reasons.append(loss)
        elif (encode := _encoding(loss, truth, outputs[name].shape, classifies)) is None:
            reasons.append(
                f"labels of shape {truth.shape[1:]} per sample, {truth.min()} to {truth.max()}, do not fit its compiled"
                f" {type(loss).__name__} of output {name!r}, {outputs[name].shape[1:]}"
            )
        else:
            found[name] = (loss, encode)
    if len(found) != 1:
        several = f"the labels fit {len(found)} outputs: {', '.join(found)}"
        return no_labels(several if found else "; ".join(dict.fromkeys(reasons)) or "its compiled loss has no output")
    ((name, (loss, encode)),) = found.items()
    key = "class" if classifies else "y"
    return Teaching(
        f"labels ({type(loss).__name__}, as compiled)",
        {key: truth},
        _of_output(name, loss),
        lambda batch: encode({"y": batch[key]}),
    )


def _by_output(described: Any, names: list[str]) -> dict[str, Any]:
    """Return the description of each output's loss; Keras takes one for all, a list in order, or a dict by name."""
    if isinstance(described, list | tuple):
        pairs = dict(zip(names, described, strict=False))
    elif isinstance(described, dict) and "class_name" not in described:
        pairs = {name: described.get(name) for name in names}
    else:
        pairs = dict.fromkeys(names, described)
    return {name: one for name, one in pairs.items() if one is not None}


def _encoding(loss: keras.losses.Loss, truth: Array, shape: tuple[int, ...], classifies: bool) -> Encode | None:
    """Return how labels become what the loss compares with an output of ``shape``, or None where they do not fit."""
    rows, kind = truth.shape[1:], type(loss).__name__
    numbers = np.issubdtype(truth.dtype, np.integer) and truth.min() >= 0 and truth.max() < shape[-1]
    per_class = numbers and shape[-1] > 1 and rows in (shape[1:-1], (*shape[1:-1], 1))
    if kind == "SparseCategoricalCrossentropy":
        return dict if per_class else None
    if rows == shape[1:]:
        return dict
    if (*rows, 1) == shape[1:]:
        return lambda batch: {"y": batch["y"][..., np.newaxis]}
    if per_class and (classifies or kind in CATEGORICAL):
        return lambda batch: {"y": np.eye(shape[-1], dtype=np.float32)[batch["y"].reshape(-1, *shape[1:-1])]}
    return None


def _of_output(name: str, compare: keras.losses.Loss) -> Loss:
    def loss(outputs: Tensors, labels: Tensors) -> tf.Tensor:
        return tf.cast(compare(labels["y"], outputs[name]), tf.float32)

    return loss
