"""Which layers can become a pair of thinner ones, and the graph with these pairs in it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from edgekit.errors import UnsupportedError
from edgekit.prune.keras.functional import nodes_in_order, operations

Factors = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]
"""Kernel to the thin layer's r outputs; (r, width) back; bias (width,)."""

SUFFIX = "_low_rank"
WIDEST = 4096  # a covariance of this width takes 128 MB
_CONVOLUTIONS = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@dataclass(frozen=True)
class Candidate:
    """A layer that is called once, at the top of the graph, on the Keras tensor ``source``."""

    layer: Any
    source: Any

    @property
    def width(self) -> int:
        return int(self.layer.kernel.shape[-1])

    @property
    def is_dense(self) -> bool:
        return isinstance(self.layer, keras.layers.Dense)

    def positions(self) -> int:
        """Return how often the kernel is applied to one sample."""
        shape = self.layer.compute_output_shape(self.source.shape)
        return math.prod(int(size) for size in shape[1:-1])

    def macs(self, rank: int | None = None) -> int:
        """Return the multiply-accumulates of the layer, or of the pair with this rank."""
        taps = math.prod(int(size) for size in self.layer.kernel.shape[:-1])
        return self.positions() * (taps * self.width if rank is None else rank * (taps + self.width))

    def linear(self, inputs: Any) -> Any:
        """Compute the layer without bias and activation."""
        layer = self.layer
        if self.is_dense:
            return keras.ops.matmul(inputs, layer.kernel)
        if layer.padding == "causal":
            inputs = keras.ops.pad(inputs, [[0, 0], [layer.dilation_rate[0] * (layer.kernel_size[0] - 1), 0], [0, 0]])
        padding = "valid" if layer.padding == "causal" else layer.padding
        return keras.ops.conv(
            inputs, layer.kernel, strides=list(layer.strides), padding=padding, dilation_rate=layer.dilation_rate
        )


def candidates(model: keras.Model) -> tuple[list[Candidate], list[tuple[str, str]]]:
    """Return the layers that can become pairs, and of the other Dense and convolutions (name, reason)."""
    found: list[Candidate] = []
    passed_over: list[tuple[str, str]] = []
    calls = Counter(id(node.operation) for node in nodes_in_order(model))
    for key, operation in operations(model).items():
        if not isinstance(operation, (*_CONVOLUTIONS, keras.layers.Dense)):
            continue
        if "/" in key:
            passed_over.append((key, "it is inside a nested model"))
            continue
        nodes = [node for node in nodes_in_order(model) if node.operation is operation]
        reason = "it is called more than once" if calls[id(operation)] != 1 else _refusal(operation, nodes[0])
        if reason:
            passed_over.append((key, reason))
        else:
            found.append(Candidate(operation, nodes[0].input_tensors[0]))
    return found, passed_over


def pair(layer: Any, rank: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the configs of the thin layer and of the one that keeps the name."""
    width = "units" if isinstance(layer, keras.layers.Dense) else "filters"
    thin, wide = layer.get_config(), layer.get_config()
    thin |= {"name": layer.name + SUFFIX, width: rank, "use_bias": False, "activation": "linear"}
    wide["use_bias"] = True  # it takes the mean of what the rank leaves out
    if width == "filters":
        dimensions = len(layer.kernel_size)
        ones = (1,) * dimensions
        wide |= {"kernel_size": ones, "strides": ones, "dilation_rate": ones, "padding": "valid"}
    return thin, wide


def alone(candidate: Candidate, factors: Factors | None = None) -> keras.Model:
    """Return a model of one sample's input that computes the layer alone, or the pair."""
    layer = candidate.layer
    source = keras.Input(candidate.source.shape[1:], dtype=candidate.source.dtype)
    if factors is None:
        only = type(layer).from_config(layer.get_config())
        model = keras.Model(source, only(source))
        only.set_weights(layer.get_weights())
        return model
    thin, wide = (type(layer).from_config(config) for config in pair(layer, factors[1].shape[0]))
    model = keras.Model(source, wide(thin(source)))
    _fill(thin, wide, factors)
    return model


def with_pairs(model: keras.Model, chosen: Sequence[tuple[Candidate, Factors]]) -> keras.Model:
    """Copy a functional model, with every chosen layer replaced by its pair.

    Raises UnsupportedError where the model cannot be made again from its config.
    """
    config = model.get_config()
    pairs = {candidate.layer.name: (candidate, factors) for candidate, factors in chosen}
    layers = []
    for entry in config["layers"]:
        if entry["name"] in pairs:
            candidate, factors = pairs[entry["name"]]
            layers.append(_put_before(entry, candidate, factors[1].shape[0]))
        layers.append(entry)
    try:
        made = keras.Model.from_config({**config, "layers": layers})
    except (ValueError, TypeError, NotImplementedError, KeyError) as error:
        raise UnsupportedError(
            f"model '{model.name}' cannot be rebuilt from its config: {error}",
            "Set [prune] low_rank = false for this model.",
        ) from error
    targets = operations(made)
    for key, operation in operations(model).items():
        if key in pairs:
            _fill(targets[key + SUFFIX], targets[key], pairs[key][1])
        elif isinstance(operation, keras.Layer):
            for old, new in zip(operation.weights, targets[key].weights, strict=True):
                new.assign(old)
    return made


def _put_before(entry: dict[str, Any], candidate: Candidate, rank: int) -> dict[str, Any]:
    """Change a layer's entry in the graph's config to the wide layer's; return the entry of the thin one."""
    layer = candidate.layer
    thin, wide = pair(layer, rank)
    before = {**entry, "config": thin, "name": thin["name"]}
    shape = (*layer.compute_output_shape(candidate.source.shape)[:-1], rank)
    tensor = {
        "class_name": "__keras_tensor__",
        "config": {"shape": shape, "dtype": layer.compute_dtype, "keras_history": [thin["name"], 0, 0]},
    }
    entry |= {"config": wide, "inbound_nodes": [{"args": (tensor,), "kwargs": {}}]}
    for one in (before, entry):  # the shape a layer was built for; without it the first call builds it
        one.pop("build_config", None)
    return before


def _fill(thin: Any, wide: Any, factors: Factors) -> None:
    first, second, bias = factors
    thin.kernel.assign(first.astype(np.float32))
    wide.kernel.assign(second.reshape(wide.kernel.shape).astype(np.float32))
    wide.bias.assign(np.broadcast_to(bias, wide.bias.shape).astype(np.float32))


def _refusal(layer: Any, node: Any) -> str:
    """Say why this layer cannot become a pair; "" where it can."""
    if getattr(layer, "groups", 1) != 1:
        return "it is a grouped convolution"
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        return "its channels come first"
    if layer.kernel_constraint is not None or getattr(layer, "quantization_mode", None):
        return "its kernel is constrained or quantized"
    if type(layer) not in (*_CONVOLUTIONS, keras.layers.Dense):
        return f"{type(layer).__name__} is a class of its own"
    if int(layer.kernel.shape[-1]) > WIDEST:
        return f"it has more than {WIDEST} outputs"
    if len(node.input_tensors) != 1 or None in node.input_tensors[0].shape[1:]:
        return "its input has no fixed size"
    if any(value is not None for value in node.arguments.kwargs.values()):
        return "it is called with arguments"
    return ""
