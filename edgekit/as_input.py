"""One sample as a model's input takes it: its shape and its type, or an error; never other numbers without a word."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.artifact import TensorSpec
from edgekit.errors import RecipeError

Array = npt.NDArray[Any]
_ORDERS = ((0, 3, 1, 2), (0, 2, 3, 1))  # NHWC to NCHW, and NCHW to NHWC
_ROUNDED = 0.1  # of the largest value: fractions of an integer input are rounded, as the application would


def as_input(value: Array, spec: TensorSpec, name: str) -> Array:
    """Return a sample with batch 1 in front; ``name``: of the sample. Raises RecipeError where it does not fit."""
    array = value[np.newaxis]
    expected = tuple(spec.shape)
    if array.ndim == len(expected) == 4 and array.shape != expected:
        orders = (order for order in _ORDERS if tuple(array.shape[axis] for axis in order) == expected)
        array = array.transpose(next(orders, (0, 1, 2, 3)))
    if array.shape != expected:
        raise RecipeError(
            f"Sample {name} has shape {array.shape[1:]}, the model's input {spec.name!r} takes {expected[1:]}.",
            "Check [preprocess] size and color, or the arrays' shape.",
        )
    dtype = np.dtype(spec.dtype)
    if np.issubdtype(dtype, np.integer) and array.dtype != dtype and array.size:
        array = _whole(array, dtype, spec.name, name)
    return np.ascontiguousarray(array, dtype=dtype)


def _whole(array: Array, dtype: np.dtype[Any], input_name: str, name: str) -> Array:
    """Return integers that ``dtype`` can hold. Raises RecipeError where that would make other values of them."""
    limits = np.iinfo(dtype)
    whole = np.round(array) if np.issubdtype(array.dtype, np.floating) else array
    low, high = whole.min(), whole.max()
    lost = float(np.abs(whole - array).max()) if whole is not array else 0.0
    if limits.min <= low and high <= limits.max and lost <= _ROUNDED * float(np.abs(array).max()):
        return whole
    raise RecipeError(
        f"Sample {name} has values from {array.min():g} to {array.max():g}, and the model's input {input_name!r} takes "
        f"{dtype}: they would become others.",
        "Quantize them as your application does. For images [preprocess] can: an int8 input mostly takes "
        "pixel - 128 (mean = [128.0]), a uint8 input the pixel itself (no mean and scale).",
    )
