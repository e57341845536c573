"""Try whether the artifact reads its input in another order: colours swapped, rows for columns, NCHW for NHWC."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.diagnose.execute import Runner, Sample
from edgekit.diagnose.output_error import Outputs, Part, errors

Array = npt.NDArray[Any]
Change = Callable[[Array], Array]
_FEW = 4  # channels up to which every order is tried


@dataclass(frozen=True)
class LayoutTrial:
    """``error``: of the artifact against the float model as it is; ``changed``: with the input in ``order``."""

    input: str
    order: str
    error: float
    changed: float


def try_layouts(
    runner: Runner,
    samples: Sequence[Sample],
    outputs: Sequence[Outputs],
    parts: Sequence[Part],
    format: str,
    error: float,
) -> LayoutTrial | None:
    """Return the order of an image input with which the float model comes closest to the artifact's ``outputs``.

    None where no input is an image or no order comes closer than the right one.
    """
    best: LayoutTrial | None = None
    for spec in runner.inputs:
        name = spec["name"]
        if samples[0][name].ndim != 4:
            continue
        for order, change in _changes(samples[0][name].shape, format):
            changed = [runner.run({**sample, name: change(sample[name])}) for sample in samples]
            found = max(errors(parts, changed, outputs).values(), default=error)
            if found < (best.changed if best else error):
                best = LayoutTrial(name, order, error, found)
    return best


def _changes(shape: tuple[int, ...], format: str) -> Iterator[tuple[str, Change]]:
    axis = 1 if format == "onnx" and shape[1] <= shape[3] else 3
    channels = shape[axis]
    rows, columns = (2, 3) if axis == 1 else (1, 2)
    if 1 < channels <= _FEW:
        for order in permutations(range(channels)):
            if order != tuple(range(channels)):
                yield _name(order), partial(_reordered, order=order, axis=axis)
    if shape[rows] == shape[columns] > 1:
        yield "with rows and columns swapped", lambda x: np.ascontiguousarray(np.swapaxes(x, rows, columns))
    if channels > 1:
        yield "written as NCHW and read as NHWC", lambda x: np.moveaxis(x, 3, 1).reshape(x.shape)
        moved = (shape[0], shape[3], shape[1], shape[2])
        yield "written as NHWC and read as NCHW", lambda x: np.ascontiguousarray(np.moveaxis(x.reshape(moved), 1, 3))


def _reordered(x: Array, order: tuple[int, ...], axis: int) -> Array:
    return np.ascontiguousarray(np.take(x, order, axis))


def _name(order: tuple[int, ...]) -> str:
    swapped = " (BGR for RGB)" if order == (2, 1, 0) else ""
    return f"with its channels in the order {', '.join(map(str, order))}{swapped}"
