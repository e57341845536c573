"""Change a float model's weights and biases so that one plan's quantized file answers more like it did.

Measured, not derived: the quantized file runs on calibration samples, and every layer's real inputs there are held
against those in the float model. What comes out is again a float model, for the same plan and the same ranges.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.errors import StageError
from edgekit.quantize.equalize.layers import Layer, ModelFile, Window
from edgekit.quantize.equalize.rescale import FILES
from edgekit.quantize.layer_inputs import InputMoments, as_matrix, from_matrix
from edgekit.quantize.plan import Plan
from edgekit.quantize.rounding import least_error, nearest
from edgekit.quantize.watch import on_grid, watch
from edgekit.search.problem import Base

Array = npt.NDArray[Any]
Sample = Mapping[str, Array]
Emit = Callable[[bytes, Plan], bytes]
SAMPLES = 32  # of the calibration samples: means and covariances settle long before ranges do
_MEMORY = 256 * 2**20  # for the covariances of the layers that are watched at once
_WIDEST = 2304  # columns of a layer whose rounding is chosen: its factorization takes a second


@dataclass
class _Repair:
    """A layer under repair: its (groups, outputs, columns) weights as they are, and as the file will hold them.

    ``bias``: (outputs,), None where it has none of its own. ``fed``: mean of its input rows in the float model.
    ``last``: nothing weighted comes after it.
    """

    layer: Layer
    window: Window | None
    tensor: str
    rounds_input: bool
    exact: Array
    held: Array
    bias: Array | None
    last: bool
    fed: Array


class OutOfTime(Exception):
    """The deadline came before the repair was done."""


class Refiner:
    """Repairs bases for plans. ``samples`` opens the calibration samples anew; ``folder`` takes what it makes."""

    def __init__(self, format: str, emit: Emit, samples: Callable[[], Iterable[Sample]], folder: Path) -> None:
        self.format, self.emit, self.samples, self.folder = format, emit, samples, folder
        self._made = 0

    def refine(self, base: Base, plan: Plan, rounding: bool, deadline: float) -> Base | None:
        """Return ``base`` with biases corrected, and with the weights' rounding chosen if ``rounding``.

        None where no layer can be repaired or the clock (``time.monotonic``) passes ``deadline`` before it is done.
        Raises StageError where the runtime does not run the file with its inner tensors to look at.
        """
        model = FILES[self.format](base.model)
        repairs = _repairs(model, plan)
        if not any(repair.bias is not None or rounding for repair in repairs):
            return None
        try:
            self._repair(model, base, plan, repairs, rounding, deadline)
        except OutOfTime:
            return None
        except (ValueError, RuntimeError) as error:  # both runtimes report what they cannot run through these
            raise StageError(f"it does not run with its tensors kept: {error}") from error
        self._made += 1
        path = self.folder / f"refined-{self._made}.{self.format}"
        path.write_bytes(model.content())
        return replace(base, model=path)

    def _repair(
        self, model: ModelFile, base: Base, plan: Plan, repairs: list[_Repair], rounding: bool, deadline: float
    ) -> None:
        for repair, moments in self._moments(model.content(), None, repairs, False, deadline):
            repair.fed = moments.mean
        for repair, moments in self._moments(self.emit(model.content(), plan), plan, repairs, rounding, deadline):
            if moments.spread:
                repair.held = _rounded(repair, moments)
                weight = model.array(repair.layer.weight)
                model.replace(repair.layer.weight, from_matrix(repair.layer, repair.held, weight))
            _correct(model, repair, _products(repair.held - repair.exact, moments.mean))
        # By now every layer answers for itself. What is left of all of them together shows at the last ones.
        last = [repair for repair in repairs if repair.last and repair.bias is not None]
        for repair, moments in self._moments(self.emit(model.content(), plan), plan, last, False, deadline):
            _correct(model, repair, _products(repair.held, moments.mean) - _products(repair.exact, repair.fed))

    def _moments(
        self, content: bytes, plan: Plan | None, repairs: list[_Repair], spread: bool, deadline: float
    ) -> Iterator[tuple[_Repair, InputMoments]]:
        """Run the file and yield every layer with the moments of its input, as its kernel reads it."""
        for batch in _batches(repairs, spread):
            found = [InputMoments(r.layer, r.window, SAMPLES, spread and r.exact.shape[2] <= _WIDEST) for r in batch]
            run = watch(content, self.format, {repair.tensor for repair in batch})
            for sample in islice(self.samples(), SAMPLES):
                if time.monotonic() > deadline:
                    raise OutOfTime
                values = run(sample)
                for repair, moments in zip(batch, found, strict=True):
                    moments.add(_as_read(values[repair.tensor], repair, plan))
            yield from zip(batch, found, strict=True)


def _as_read(values: Array, repair: _Repair, plan: Plan | None) -> Array:
    if plan is None or not repair.rounds_input:
        return values
    return on_grid(values, *plan.ranges[repair.tensor], symmetric=plan.scheme == "tensorrt")


def _repairs(model: ModelFile, plan: Plan) -> list[_Repair]:
    precision = {item.op: item.precision for item in plan.decisions if item.precision != "float32"}
    found = []
    for position, op in enumerate(model.graph.ops):
        layer = model.layer(position) if op.name in precision else None
        if layer is None or not model.is_private(layer.weight):
            continue
        window = model.window(position)
        if window is None and not layer.matrix:
            continue
        exact = as_matrix(layer, model.array(layer.weight)).astype(np.float64)
        own = bool(layer.bias) and model.is_private(layer.bias)
        bias = model.array(layer.bias).reshape(-1).astype(np.float64) if own else None
        static = precision[op.name] == "int8"
        last = not _reaches_weights(model, position)
        found.append(_Repair(layer, window, op.inputs[0], static, exact, nearest(exact), bias, last, exact))
    return found


def _reaches_weights(model: ModelFile, position: int) -> bool:
    waiting, seen = list(model.graph.after(position)), set()
    while waiting:
        reader = waiting.pop()
        if model.graph.ops[reader].weighted:
            return True
        if reader not in seen:
            seen.add(reader)
            waiting.extend(model.graph.after(reader))
    return False


def _batches(repairs: list[_Repair], spread: bool) -> Iterator[list[_Repair]]:
    """Part the layers so that the covariances of a batch fit in ``_MEMORY``; without them all go at once."""
    batch: list[_Repair] = []
    used = 0
    for repair in repairs:
        groups, _, columns = repair.exact.shape
        size = 8 * groups * columns**2 if spread and columns <= _WIDEST else 0
        if batch and used + size > _MEMORY:
            yield batch
            batch, used = [], 0
        batch.append(repair)
        used += size
    if batch:
        yield batch


def _rounded(repair: _Repair, moments: InputMoments) -> Array:
    second = moments.second if repair.bias is None else moments.covariance
    return np.stack([least_error(weights, part) for weights, part in zip(repair.exact, second, strict=True)])


def _products(weights: Array, mean: Array) -> Array:
    """Return (outputs,) what the weights make of mean inputs, in the order of the channels."""
    result: Array = np.einsum("gok,gk->go", weights, mean).reshape(-1)
    return result


def _correct(model: ModelFile, repair: _Repair, shift: Array) -> None:
    """Set the bias to the float model's, less ``shift``."""
    if repair.bias is not None:
        like = model.array(repair.layer.bias)
        model.replace(repair.layer.bias, (repair.bias - shift).astype(np.float32).reshape(like.shape))
