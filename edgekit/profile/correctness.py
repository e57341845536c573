"""Check on the device that an artifact computes what it should: a fast wrong answer is a failure."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import StageError

ONE_STEP = 1  # an int8 kernel of another CPU may round a half the other way


def check_outputs(
    artifact: str, replied: Sequence[dict[str, Any]], expected: Path | None, tolerance: float
) -> float | None:
    """Return the largest difference from what ``expected`` holds, None without it.

    ``expected`` is an .npz keyed by output name. Integer outputs may differ by one step, float ones by
    ``tolerance``, a share of that output's largest magnitude; the difference returned is in the same units.
    Raises StageError where an output is NaN or infinite, or is off by more.
    """
    outputs = {str(output["name"]): decode_tensor(output) for output in replied}
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int(np.size(array) - np.isfinite(array).sum())
            raise StageError(f"{artifact}: output {name} has {bad} values that are NaN or infinite, of {array.size}")
    if expected is None:
        return None
    with np.load(expected, allow_pickle=False) as stored:
        return max((_compare(artifact, name, outputs, stored[name], tolerance) for name in stored.files), default=0.0)


def _compare(
    artifact: str, name: str, outputs: dict[str, npt.NDArray[Any]], right: npt.NDArray[Any], tolerance: float
) -> float:
    if name not in outputs:
        raise StageError(f"{artifact}: no output named {name}; it has {', '.join(outputs)}")
    got = outputs[name]
    if got.shape != right.shape:
        raise StageError(f"{artifact}: output {name} has shape {got.shape}, expected {right.shape}")
    difference = float(np.abs(got.astype(np.float64) - right.astype(np.float64)).max(initial=0.0))
    hint = "this runtime computes something else than the one that checked the artifact"
    if got.dtype.kind in "iu":
        if difference > ONE_STEP:
            raise StageError(f"{artifact}: output {name} is off by {difference:.0f} steps, allowed is 1", hint)
        return difference
    share = difference / (float(np.abs(right.astype(np.float64)).max(initial=0.0)) or 1.0)
    if not share <= tolerance:
        raise StageError(
            f"{artifact}: output {name} is off by {share:.2g} of its range, allowed is {tolerance:.2g}", hint
        )
    return share


def decode_tensor(output: dict[str, Any]) -> npt.NDArray[Any]:
    """Return the array that an agent replied as base64 of its bytes."""
    data = base64.b64decode(output["data"])
    return np.frombuffer(data, np.dtype(output["dtype"])).reshape(output["shape"])
