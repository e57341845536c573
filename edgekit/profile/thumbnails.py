"""A test sample as a small picture inside a page."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgekit.dataset import Dataset, read_image

Array = npt.NDArray[Any]
_LONGEST = 256  # pixels
_EXACT = 64  # smaller samples are stored pixel by pixel
_QUALITY = 80
_SMALLEST = 4


@dataclass(frozen=True)
class Thumbnail:
    """``uri``: a data URI, empty for a sample that is no image; ``width`` and ``height`` of the sample itself."""

    uri: str = ""
    width: int = 0
    height: int = 0


def thumbnail(samples: Dataset, index: int) -> Thumbnail:
    """Return sample ``index`` as stored, before preprocessing, at most 256 pixels a side."""
    pixels = _pixels(samples, index)
    if pixels is None:
        return Thumbnail()
    height, width = pixels.shape[:2]
    image = Image.fromarray(pixels)
    content = BytesIO()
    if max(width, height) <= _EXACT:
        image.save(content, "PNG")
        return Thumbnail(_uri("png", content), width, height)
    image.thumbnail((_LONGEST, _LONGEST))
    image.save(content, "JPEG", quality=_QUALITY)
    return Thumbnail(_uri("jpeg", content), width, height)


def _uri(kind: str, content: BytesIO) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"


def _pixels(samples: Dataset, index: int) -> Array | None:
    """Return (H, W) or (H, W, 3) uint8, or None where the sample does not look like an image."""
    if samples.files:
        stored = read_image(samples.files[index], samples.preprocess)
    elif len(samples.arrays) == 1 or "x" in samples.arrays:
        stored = samples.arrays.get("x", next(iter(samples.arrays.values())))[index]
    else:
        return None
    channels_first = stored.ndim == 3 and stored.shape[0] in (1, 3) and stored.shape[2] not in (1, 3)
    pixels = stored.transpose(1, 2, 0) if channels_first else stored
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 3 and samples.preprocess.color == "bgr":
        pixels = pixels[..., ::-1]
    if pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or min(pixels.shape[:2]) < _SMALLEST:
        return None
    return np.ascontiguousarray(_as_bytes(pixels))


def _as_bytes(pixels: Array) -> Array:
    if pixels.dtype == np.uint8:
        return pixels
    values = pixels.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if low >= 0 and high <= 255:
        low, high = 0.0, 1.0 if high <= 1 else 255.0
    return np.round((values - low) / ((high - low) or 1.0) * 255).astype(np.uint8)
