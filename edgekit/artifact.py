"""A model file with what is known about it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_CHUNK = 1 << 20


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. ``shape`` has batch 1 in front; ``layout`` is e.g. NHWC, or "" where unknown."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    layout: str = ""


@dataclass(frozen=True)
class Step:
    """One thing that was done to the model, with its parameters."""

    name: str
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Artifact:
    """A model file. ``format``: keras | h5 | saved_model | onnx | tflite; ``precision``: the recipe's grammar."""

    path: Path
    format: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sha256: str
    size_bytes: int
    history: tuple[Step, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "path": self.path.name}


def digest(path: Path) -> str:
    """Return the sha256 of a file, or of a folder's relative names and contents, in hex. Raises OSError."""
    if not path.is_dir():
        return _file_digest(path)
    tree = hashlib.sha256()
    for item in sorted(p for p in path.rglob("*") if p.is_file()):
        tree.update(f"{item.relative_to(path).as_posix()}\0{_file_digest(item)}\n".encode())
    return tree.hexdigest()


def _file_digest(path: Path) -> str:
    content = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            content.update(chunk)
    return content.hexdigest()
