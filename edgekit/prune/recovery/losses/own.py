"""The loss of the recipe's adapter: the user's own file says how the network was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgekit.prune.recovery.losses.teaching import Arrays, Teaching
from edgekit.prune.recovery.losses.truth import boxes_of, is_boxes, padded_boxes
from edgekit.tasks.adapter import load_adapter


def by_adapter(path: Path, inputs: Arrays, truth: Any) -> Teaching:
    """Teach with the adapter's ``loss(outputs, labels)``.

    Boxes go through its ``encode_labels(boxes, classes, input_shape)``, image by image; any other truth is
    ``labels["y"]`` as it is. Raises RecipeError for a file that lacks one of these functions.
    """
    text = f"labels ({path.name})"
    if not is_boxes(truth):
        return Teaching(text, {"y": np.asarray(truth)}, load_adapter(path, ("loss",)).loss)
    module = load_adapter(path, ("encode_labels", "loss"))
    shape = tuple(next(iter(inputs.values())).shape[1:])

    def encode(batch: Arrays) -> Arrays:
        samples = [boxes_of(batch, row) for row in range(len(batch["present"]))]
        encoded = [module.encode_labels(sample.boxes, sample.classes, shape) for sample in samples]
        return {name: np.stack([one[name] for one in encoded]) for name in encoded[0]}

    return Teaching(text, padded_boxes(truth), module.loss, encode)
