"""The step before pruning an ONNX model: time its ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.convert.onnx_file import from_onnx
from edgekit.progress import Progress
from edgekit.prune.latency.costs import time_ops
from edgekit.prune.onnx.analysis import analyze
from edgekit.prune.onnx.network import read


def run(
    *, out: Path, progress: Progress, model: Path, places: Sequence[Mapping[str, Any]], largest_cut: float
) -> dict[str, Any]:
    """Write ``costs.json`` (``time_ops``). Raises UnsupportedError for a model that cannot be pruned."""
    progress(0.0, "listing the ops of the model")
    return time_ops(analyze(read(from_onnx(model))), out, progress, places, largest_cut)
