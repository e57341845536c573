"""Compare an artifact's outputs with the float model's: a converter that returns may still be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

# float32 kernels sum in another order: 1e-6 to 1e-5 of the largest value is normal, 1e-4 is a wrong graph.
FLOAT_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Parity:
    """``errors``: largest difference per output, relative to max(1, largest reference value)."""

    errors: dict[str, float]
    max_error: float
    tolerance: float
    passed: bool
    problem: str = ""


def compare(
    reference: Mapping[str, npt.NDArray[Any]],
    actual: Mapping[str, npt.NDArray[Any]],
    tolerance: float = FLOAT_TOLERANCE,
) -> Parity:
    """Compare outputs by name; missing, extra, misshapen or non-finite ones fail with an infinite error."""
    errors: dict[str, float] = {}
    problems = []
    for name in sorted(reference.keys() | actual.keys()):
        error, problem = _difference(name, reference.get(name), actual.get(name))
        errors[name] = error
        if not problem and error > tolerance:
            problem = f"output '{name}' differs by {error:.2e}, allowed are {tolerance:.0e}"
        if problem:
            problems.append(problem)
    if not errors:
        problems.append("there are no outputs to compare")
    worst = max(errors.values(), default=float("inf"))
    return Parity(errors, worst, tolerance, not problems, "; ".join(problems))


def _difference(name: str, expected: npt.NDArray[Any] | None, found: npt.NDArray[Any] | None) -> tuple[float, str]:
    if found is None:
        return float("inf"), f"output '{name}' is missing"
    if expected is None:
        return float("inf"), f"output '{name}' is not an output of the reference"
    if expected.shape != found.shape:
        return float("inf"), f"output '{name}' has shape {found.shape}, the reference {expected.shape}"
    if not np.isfinite(expected).all():
        return float("inf"), f"the reference itself has NaN or infinity in output '{name}'"
    if not np.isfinite(found).all():
        return float("inf"), f"output '{name}' has NaN or infinity"
    if not expected.size:
        return 0.0, ""
    wide = expected.astype(np.float64)
    scale = max(1.0, float(np.abs(wide).max()))
    return float(np.abs(wide - found.astype(np.float64)).max()) / scale, ""
