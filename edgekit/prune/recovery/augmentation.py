"""Make new images out of the given ones; the unpruned model says what is in them, so no label is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.prune.keras.signature import Arrays

SHIFT = 0.12  # of height and width
PATCH = (0.25, 0.75)  # side of a pasted patch, of height and width
CONTRAST = 0.2
BRIGHTNESS = 0.1  # of the value range


def mix(inputs: Arrays, generator: np.random.Generator) -> Arrays:
    """Shift images, paste a patch of another image of the batch into each, and vary brightness and contrast.

    Applies to floating inputs of shape (batch, height, width, channels); all others pass unchanged. Pasting
    after CutMix (arXiv:1905.04899), without its mixed labels.
    """
    return {name: _mix_images(array, generator) if is_image(array) else array for name, array in inputs.items()}


def has_images(inputs: Arrays) -> bool:
    return any(is_image(array) for array in inputs.values())


def is_image(array: npt.NDArray[Any]) -> bool:
    return array.ndim == 4 and np.issubdtype(array.dtype, np.floating) and min(array.shape[1:3]) >= 8


def _mix_images(images: npt.NDArray[Any], generator: np.random.Generator) -> npt.NDArray[Any]:
    count, height, width, _ = images.shape
    margin_y, margin_x = int(SHIFT * height), int(SHIFT * width)
    padded = np.pad(images, ((0, 0), (margin_y, margin_y), (margin_x, margin_x), (0, 0)), mode="reflect")
    partners = generator.permutation(count)
    mixed = np.empty_like(images)
    for index in range(count):
        y, x = generator.integers(0, 2 * margin_y + 1), generator.integers(0, 2 * margin_x + 1)
        mixed[index] = padded[index, y : y + height, x : x + width]
        high, wide = (int(side) for side in generator.uniform(*PATCH, 2) * (height, width))
        y, from_y = generator.integers(0, height - high + 1, 2)
        x, from_x = generator.integers(0, width - wide + 1, 2)
        patch = images[partners[index], from_y : from_y + high, from_x : from_x + wide]
        mixed[index, y : y + high, x : x + wide] = patch
    return relight(mixed, images.min(), images.max(), generator)


def relight(images: npt.NDArray[Any], low: float, high: float, generator: np.random.Generator) -> npt.NDArray[Any]:
    shape = (len(images), 1, 1, 1)
    contrast = generator.uniform(1.0 - CONTRAST, 1.0 + CONTRAST, shape)
    shift = generator.uniform(-BRIGHTNESS, BRIGHTNESS, shape) * (high - low)
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    lit = np.clip((images - mean) * contrast + mean + shift, low, high)
    return np.asarray(lit, dtype=images.dtype)
