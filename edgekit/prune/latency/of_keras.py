"""The step before pruning a Keras model: time its ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit import keras_io
from edgekit.progress import Progress
from edgekit.prune.keras.functional import as_functional
from edgekit.prune.keras.graph import analyze
from edgekit.prune.latency.costs import time_ops


def run(
    *, out: Path, progress: Progress, model: Path, places: Sequence[Mapping[str, Any]], largest_cut: float
) -> dict[str, Any]:
    """Write ``costs.json`` (``time_ops``). Raises UnsupportedError for a model that cannot be pruned."""
    progress(0.0, "listing the ops of the model")
    return time_ops(analyze(as_functional(keras_io.load(model))), out, progress, places, largest_cut)
