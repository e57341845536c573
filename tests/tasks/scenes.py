"""Random labelled images and detections of them, hard on a matcher: ties, crowds, misses, empty images."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.dataset import Boxes

Prediction = dict[str, npt.NDArray[Any]]


def floats(values: Any) -> npt.NDArray[Any]:
    return np.array(values, np.float32)


def scenes(
    images: int, classes: int, *, seed: int, boxes: int = 4, clutter: int = 12, score_steps: int = 0
) -> tuple[list[Prediction], list[Boxes]]:
    """Return predictions and truth; ``score_steps`` > 0 rounds scores, which makes many equal."""
    random = np.random.default_rng(seed)
    predictions, truth = [], []
    for _ in range(images):
        count = int(random.integers(0, boxes + 1))
        corners = random.uniform(0, 80, (count, 2))
        real = np.concatenate([corners, corners + random.uniform(6, 40, (count, 2))], axis=1)
        kinds = random.integers(0, classes, count)
        truth.append(Boxes(real.astype(np.float32), kinds.astype(np.int64)))
        near = np.repeat(real, 2, axis=0) + random.normal(0, 2.0, (2 * count, 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2])
        corners = random.uniform(0, 80, (clutter, 2))
        false = np.concatenate([corners, corners + random.uniform(6, 40, (clutter, 2))], axis=1)
        scores = np.concatenate([random.uniform(0.2, 1.0, 2 * count), random.uniform(0.0, 0.7, clutter)])
        predictions.append(
            {
                "boxes": np.concatenate([near, false]).astype(np.float32),
                "scores": (np.round(scores * score_steps) / score_steps if score_steps else scores).astype(np.float32),
                "classes": np.concatenate([np.repeat(kinds, 2), random.integers(0, classes, clutter)]),
            }
        )
    return predictions, truth
