"""Go through the weights of a Keras model in HDF5 without holding them all in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from edgekit.errors import UnsupportedError
from edgekit.source.info import MAX_BYTES

_BLOCK_BYTES = 64 << 20


@dataclass(frozen=True)
class Weights:
    """``parameters`` counts what ``model.count_params()`` counts."""

    parameters: int
    has_optimizer: bool


def scan(root: h5py.Group, path: Path) -> Weights:
    """Count the parameters. Raises UnsupportedError for NaN or infinite ones, and for links out of the file."""
    parameters, size_bytes, has_optimizer = 0, 0, False
    for name, dataset in _datasets(root, "", path):
        if name.startswith("optimizer/"):
            has_optimizer = True
            continue
        size_bytes += dataset.size * dataset.dtype.itemsize
        if size_bytes > MAX_BYTES:
            raise UnsupportedError(f"{path} declares more than {MAX_BYTES >> 30} GB of weights.")
        if "seed_generator" in name:
            continue
        parameters += dataset.size
        if np.issubdtype(dataset.dtype, np.floating) and not _is_finite(dataset):
            owner = dataset.parent.attrs.get("name", "")
            shown = f"{name} (layer {owner!r})" if owner else name
            raise UnsupportedError(
                f"{path} holds NaN or infinite values in the weight {shown}.",
                "The training diverged: take an earlier checkpoint.",
            )
    return Weights(parameters, has_optimizer)


def _datasets(group: h5py.Group, prefix: str, path: Path) -> Iterator[tuple[str, h5py.Dataset]]:
    for key in sorted(group):
        name = f"{prefix}{key}"
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise UnsupportedError(f"{path} holds a link in place of the weight {name}.", "Save the model again.")
        item = group[key]
        if isinstance(item, h5py.Group):
            yield from _datasets(item, f"{name}/", path)
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise UnsupportedError(f"{path} keeps the weight {name} in another file.", "Save the model again.")
            yield name, item


def _is_finite(dataset: h5py.Dataset) -> bool:
    if dataset.ndim == 0 or dataset.size == 0:
        return bool(np.isfinite(dataset[()]).all())
    row_bytes = max(1, dataset.size * dataset.dtype.itemsize // len(dataset))
    rows = max(1, _BLOCK_BYTES // row_bytes)
    return all(bool(np.isfinite(dataset[at : at + rows]).all()) for at in range(0, len(dataset), rows))
