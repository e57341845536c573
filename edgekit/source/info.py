"""What can be said of a trained model from its file alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Format = Literal["keras", "h5", "saved_model", "onnx", "tflite", "pt2"]

MAX_BYTES = 8 << 30  # of weights: more would not fit any target, and stops archives made to fill a disk


@dataclass(frozen=True)
class Input:
    """One input as the file declares it. ``shape``: None for an open size; None altogether for an unknown rank."""

    name: str
    shape: tuple[int | None, ...] | None
    dtype: str


@dataclass(frozen=True)
class SourceInfo:
    """``layers``: the kind of every layer (Keras) or op, in the file's order; empty for a SavedModel.

    ``parameters`` is None where the file does not tell. ``inputs`` are those of the signature that was asked for;
    empty where only Keras can tell. ``signature``: its name, in a SavedModel.
    """

    path: Path
    format: Format
    size_bytes: int
    parameters: int | None
    layers: tuple[str, ...]
    warnings: tuple[str, ...]
    quantized: bool = False
    inputs: tuple[Input, ...] = ()
    signature: str = ""


@dataclass(frozen=True)
class Contents:
    """What one format's reader found."""

    parameters: int | None = None
    layers: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    quantized: bool = False
    inputs: tuple[Input, ...] = ()
    signature: str = ""
