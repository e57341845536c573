"""Make new labelled samples out of the given ones: images and the boxes on them move together."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.prune.keras.signature import Arrays
from edgekit.prune.recovery.augmentation import SHIFT, is_image, relight

Array = npt.NDArray[Any]
ZOOM = (0.75, 1.35)
VISIBLE = 0.4  # of a box's area: with less of it in the picture, nobody is asked to find it
_LEAST_SIDE = 2.0  # pixels


def can_move(inputs: Arrays, truth: Arrays) -> bool:
    """Tell whether ``move`` would change anything: one image input, and boxes or one class number for it."""
    return _image_input(inputs) is not None and bool(truth.keys() & {"boxes", "class"})


def move(
    inputs: Arrays, truth: Arrays, generator: np.random.Generator, *, symmetric: bool = False
) -> tuple[Arrays, Arrays]:
    """Return a batch shifted and relit, with the truth that now holds; with boxes zoomed too.

    Images are floating (B, H, W, C), truth as ``recovery.losses.truth`` lays it out, boxes in pixels of the input.
    ``symmetric``: half of the images are mirrored left to right. What ``can_move`` refuses passes unchanged.
    """
    name = _image_input(inputs)
    if name is None or not can_move(inputs, truth):
        return inputs, truth
    images, with_boxes = inputs[name], "boxes" in truth
    count, height, width, _ = images.shape
    zoom = generator.uniform(*ZOOM, count) if with_boxes else np.ones(count)
    room = SHIFT + np.abs(zoom - 1)[:, np.newaxis] / 2
    shift = generator.uniform(-room, room, (count, 2)) * (width, height)  # x, y
    mirrored = generator.random(count) < (0.5 if symmetric else 0.0)
    factor = np.stack([np.where(mirrored, -zoom, zoom), zoom], axis=1)
    middle = np.array([width, height]) / 2
    offset = middle + shift - factor * middle  # a point p of the image goes to factor * p + offset
    moved = np.stack([_resample(*each) for each in zip(images, factor, offset, strict=True)])
    lit = relight(moved, images.min(), images.max(), generator)
    return {**inputs, name: lit}, _move_boxes(truth, factor, offset, (width, height)) if with_boxes else truth


def _image_input(inputs: Arrays) -> str | None:
    names = [name for name, array in inputs.items() if is_image(array)]
    return names[0] if len(names) == 1 else None


def _resample(image: Array, factor: Array, offset: Array) -> Array:
    """Draw one image (H, W, C) anew, bilinearly; what lies outside of it gets its mean colour."""
    height, width, _ = image.shape
    mean = image.mean(axis=(0, 1))
    for axis, size, scale, start in ((0, height, factor[1], offset[1]), (1, width, factor[0], offset[0])):
        source = (np.arange(size) + 0.5 - start) / scale - 0.5
        low = np.floor(source)
        share = np.expand_dims((source - low).astype(image.dtype), (1, 2) if axis == 0 else (0, 2))
        first, second = (np.clip(low + step, 0, size - 1).astype(int) for step in (0, 1))
        image = np.take(image, first, axis) * (1 - share) + np.take(image, second, axis) * share
        outside = (source < -0.5) | (source > size - 0.5)
        image[(slice(None),) * axis + (outside,)] = mean
    return image


def _move_boxes(truth: Arrays, factor: Array, offset: Array, size: tuple[int, int]) -> Arrays:
    corners = truth["boxes"].reshape(*truth["boxes"].shape[:2], 2, 2)  # first and second corner, x before y
    moved = corners * factor[:, np.newaxis, np.newaxis] + offset[:, np.newaxis, np.newaxis]
    moved = np.sort(moved, axis=2)  # a mirrored box has its corners the wrong way round
    seen = np.clip(moved, 0, size)
    whole, sides = np.diff(moved, axis=2)[:, :, 0], np.diff(seen, axis=2)[:, :, 0]
    kept = (truth["present"] > 0) & (sides.min(axis=-1) >= _LEAST_SIDE)
    kept &= sides.prod(axis=-1) >= VISIBLE * whole.prod(axis=-1)
    boxes = np.where(kept[..., np.newaxis], seen.reshape(truth["boxes"].shape), 0.0)
    return {**truth, "boxes": boxes.astype(np.float32), "present": kept.astype(np.float32)}
