"""Lay the dataset's truth out as arrays of one row per sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekit.dataset import Boxes
from edgekit.errors import RecipeError
from edgekit.prune.recovery.losses.teaching import Arrays


def padded_boxes(truth: Sequence[Boxes]) -> Arrays:
    """Return boxes (N, M, 4) xyxy in pixels, classes (N, M) and present (N, M), 0 where a row is padding."""
    most = max(1, *(len(sample.classes) for sample in truth))
    boxes = np.zeros((len(truth), most, 4), np.float32)
    classes = np.zeros((len(truth), most), np.int32)
    present = np.zeros((len(truth), most), np.float32)
    for row, sample in enumerate(truth):
        count = len(sample.classes)
        boxes[row, :count], classes[row, :count], present[row, :count] = sample.boxes, sample.classes, 1.0
    return {"boxes": boxes, "classes": classes, "present": present}


def boxes_of(truth: Arrays, row: int) -> Boxes:
    """Return one sample of ``padded_boxes`` without its padding."""
    here = truth["present"][row] > 0
    return Boxes(truth["boxes"][row][here], truth["classes"][row][here].astype(np.int64))


def is_boxes(truth: Any) -> bool:
    return isinstance(truth, list) and all(isinstance(sample, Boxes) for sample in truth)


def check_classes(numbers: Any, count: int) -> None:
    """Raise RecipeError where a class number is not one of ``count`` classes."""
    if numbers.size and (numbers.min() < 0 or numbers.max() >= count):
        raise RecipeError(
            f"The training labels run from {numbers.min()} to {numbers.max()}; the model scores {count} classes.",
            "Check data.train against the model: class numbers start at 0.",
        )
