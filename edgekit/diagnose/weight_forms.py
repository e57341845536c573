"""Weights of an op as the artifact stores them, beside the float model's, and what else could be stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit.diagnose.match_layers import match
from edgekit.diagnose.quantized_file import Constant, QuantizedFile
from edgekit.quantize.graph import Graph, Op

Array = npt.NDArray[Any]
_STEPS = 127
_DEAD = 1e-6
# Output channels of weights, by kind; input channels of convolutions in ONNX and TFLite.
_OUTPUT_AXIS = {"DEPTHWISE_CONV_2D": 3, "ConvTranspose": 1, "Gemm": 1, "MatMul": -1}
_INPUT_AXIS = {"CONV_2D": 3, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 3, "Conv": 1}
DEPTHWISE = frozenset({"DEPTHWISE_CONV_2D"})


@dataclass(frozen=True)
class OpWeights:
    """``weights`` and ``bias`` map the float model's tensor name to its values; ``held``: the artifact's.

    ``held_bias`` is None where the artifact keeps the bias float or there is none.
    """

    op: Op
    weights: tuple[str, Array]
    held: Constant
    bias: tuple[str, Array] | None
    held_bias: Constant | None

    @property
    def stored(self) -> dict[str, Array]:
        """Return what the artifact holds, by the float model's names."""
        found = {self.weights[0]: self.held.values}
        if self.bias is not None and self.held_bias is not None:
            found[self.bias[0]] = self.held_bias.values.reshape(self.bias[1].shape)
        return found

    @property
    def depthwise(self) -> bool:
        """Tell whether each filter reads one channel."""
        return self.op.kind in DEPTHWISE or (self.op.kind == "Conv" and self.weights[1].shape[1:2] == (1,))

    @property
    def per_tensor(self) -> bool:
        return self.held.quantization is not None and self.held.quantization.per_tensor

    @cached_property
    def filters(self) -> Array:
        """Return the largest magnitude of each output channel."""
        values = np.abs(self.weights[1])
        peaks: Array = values.max(axis=tuple(i for i in range(values.ndim) if i != self._axis)).reshape(-1)
        return peaks

    @property
    def unevenness(self) -> float:
        """Return the largest filter's magnitude / the geometric mean of all that are not 0."""
        return _unevenness(self.filters)

    @property
    def input_unevenness(self) -> float:
        """Return the same for input channels; 1 where each filter reads one, or they are not told apart."""
        axis = _INPUT_AXIS.get(self.op.kind)
        if axis is None or self.depthwise:
            return 1.0
        values = np.abs(self.weights[1])
        return _unevenness(values.max(axis=tuple(i for i in range(values.ndim) if i != axis)))

    @property
    def off_by_steps(self) -> float:
        """Return how far the stored weights are from the float ones at most, in steps of their scale."""
        form = self.held.quantization
        if form is None:
            return 0.0
        shape = [1] * self.held.values.ndim
        if not form.per_tensor:
            shape[form.axis] = -1
        return float((np.abs(self.held.values - self.weights[1]) / form.scale.reshape(shape)).max())

    def cures(self) -> dict[str, dict[str, Array]]:
        """Return other constants to try: "per channel", "per input channel" (of weights), "float bias"."""
        name, values = self.weights
        bias = {key: value for key, value in self.stored.items() if key != name}
        found = {"float weights": bias} if bias else {}
        if bias:
            found["float bias"] = {name: self.held.values}
        if self.per_tensor and len(self.filters) > 1:
            found["per channel"] = {name: _rounded(values, (self._axis,)), **bias}
        inputs = _INPUT_AXIS.get(self.op.kind)
        if inputs is not None and not self.depthwise:
            found["per input channel"] = {name: _rounded(values, (self._axis, inputs)), **bias}
        return found

    @property
    def _axis(self) -> int:
        rank = self.weights[1].ndim
        axis = _OUTPUT_AXIS.get(self.op.kind, 0)
        if self.op.kind == "Gemm" and self.held.quantization is not None and not self.held.quantization.per_tensor:
            axis = self.held.quantization.axis
        return axis % rank


def read_weights(graph: Graph, constants: Mapping[str, Array], artifact: QuantizedFile) -> dict[str, OpWeights]:
    """Return the ops whose weights the artifact holds in another form, by op name."""
    pairs = match(graph, artifact)
    found = {}
    for op in graph.ops:
        if not op.weighted or op.weight not in constants:
            continue
        other = artifact.maker(pairs.get(op.outputs[0], "")) or _folded(graph, op, pairs, artifact)
        if other is None or other.kind != op.kind:
            continue
        held = artifact.constants.get(other.inputs[op.inputs.index(op.weight)])
        if held is None or held.quantization is None or held.values.shape != constants[op.weight].shape:
            continue
        found[op.name] = OpWeights(op, (op.weight, constants[op.weight]), held, *_bias(op, other, constants, artifact))
    return found


def _folded(graph: Graph, op: Op, pairs: Mapping[str, str], artifact: QuantizedFile) -> Op | None:
    """Find the counterpart of an op whose activation was folded into it: that of its only reader's output."""
    readers = graph.consumers.get(op.outputs[0], ())
    return artifact.maker(pairs.get(graph.ops[readers[0]].outputs[0], "")) if len(readers) == 1 else None


def _bias(
    op: Op, other: Op, constants: Mapping[str, Array], artifact: QuantizedFile
) -> tuple[tuple[str, Array] | None, Constant | None]:
    if len(op.inputs) < 3 or len(other.inputs) < 3 or op.inputs[2] not in constants:
        return None, None
    held = artifact.constants.get(other.inputs[2])
    values = constants[op.inputs[2]]
    usable = held is not None and held.quantization is not None and held.values.size == values.size
    return (op.inputs[2], values), held if usable else None


def _unevenness(peaks: Array) -> float:
    alive = peaks[peaks > _DEAD * peaks.max(initial=0.0)]
    return float(alive.max() / np.exp(np.log(alive).mean())) if len(alive) else 1.0


def _rounded(values: Array, axes: tuple[int, ...]) -> Array:
    others = tuple(i for i in range(values.ndim) if i not in [axis % values.ndim for axis in axes])
    peaks = np.abs(values).max(axis=others, keepdims=True)
    scales = np.where(peaks > 0, peaks / _STEPS, 1.0)
    result: Array = (np.rint(values / scales) * scales).astype(np.float32)
    return result
