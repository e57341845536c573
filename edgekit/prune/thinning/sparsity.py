"""Set single weights to zero and keep them there: a smaller file, the same amount of work.

Which: those that move a layer's outputs least on real samples, |w| times the root mean square of what it is
multiplied with (Wanda: Sun et al., "A Simple and Effective Pruning Approach for Large Language Models", 2024),
ranked within each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edgekit.prune.keras.functional import nodes_in_order, operations, weight_array
from edgekit.prune.keras.signature import Arrays, as_tensors, batches, call

FEWEST_WEIGHTS = 512  # below, the tables of the sparse form outweigh what it saves
_BATCH = 16
_KINDS = (keras.layers.Dense, keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)


@dataclass(frozen=True)
class Masks:
    """By layer, which weights of its kernel stay: 1 or 0, of the kernel's shape."""

    model: keras.Model
    kept: dict[str, npt.NDArray[np.float32]]

    def apply(self) -> None:
        """Set the other weights to zero: now, and after each step of a training."""
        layers = operations(self.model)
        for key, mask in self.kept.items():
            kernel = layers[key].kernel
            kernel.assign(kernel.value * mask)

    def facts(self) -> dict[str, Any]:
        """Return how many weights are zero, of how many in these layers and in all of the model."""
        return {
            "zeros": int(sum((mask == 0).sum() for mask in self.kept.values())),
            "of": int(sum(mask.size for mask in self.kept.values())),
            "parameters": int(self.model.count_params()),
            "layers": len(self.kept),
        }


def masks(model: keras.Model, samples: Arrays, sparsity: float | str) -> Masks:
    """Choose the weights that stay, by what the samples make the layers read; the model is not touched.

    ``sparsity``: the share of each layer's weights that becomes zero, or "2:4": two of every four neighbouring
    input channels. Layers with few weights, and for 2:4 those whose inputs are no multiple of four, stay dense.
    """
    layers = {
        key: layer
        for key, layer in operations(model).items()
        if isinstance(layer, _KINDS) and int(np.prod(layer.kernel.shape)) >= FEWEST_WEIGHTS
    }
    rule = _two_of_four if sparsity == "2:4" else _share(float(sparsity))
    strengths = _input_strengths(model, layers, samples)
    kept = {}
    for key, layer in layers.items():
        kernel = weight_array(layer.kernel)
        # One figure per input channel; a kernel's taps read the same channel at different positions.
        strength = strengths.get(key, np.ones(kernel.shape[-2]))
        mask = rule(np.abs(kernel) * strength.reshape(-1, 1))
        if mask is not None:
            kept[key] = mask.astype(np.float32)
    return Masks(model, kept)


def _share(sparsity: float) -> Callable[[npt.NDArray[Any]], npt.NDArray[Any] | None]:
    def rule(saliency: npt.NDArray[Any]) -> npt.NDArray[Any]:
        order = np.argsort(saliency, axis=None, kind="stable")
        mask = np.ones(saliency.size, bool)
        mask[order[: round(sparsity * saliency.size)]] = False
        return mask.reshape(saliency.shape)

    return rule


def _two_of_four(saliency: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
    *taps, inputs, outputs = saliency.shape
    if inputs % 4:
        return None
    groups = saliency.reshape(*taps, inputs // 4, 4, outputs)
    rank = np.argsort(np.argsort(groups, axis=-2, kind="stable"), axis=-2, kind="stable")
    return (rank >= 2).reshape(saliency.shape)


def _input_strengths(model: keras.Model, layers: dict[str, Any], samples: Arrays) -> dict[str, npt.NDArray[np.float64]]:
    """Return the root mean square per input channel of each layer; without those inside nested models."""
    read = _reads(model, layers)
    if not read:
        return {}
    names = sorted({name for several in read.values() for name, _ in several})
    tensors = {name: tensor for several in read.values() for name, tensor in several}
    taps = keras.Model(model.inputs, {name: tensors[name] for name in names})

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def powers(parts: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        found = call(taps, parts)
        return {
            name: tf.reduce_mean(tf.square(tf.cast(found[name], tf.float32)), range(len(found[name].shape) - 1))
            for name in names
        }

    sums: dict[str, Any] = dict.fromkeys(names, 0.0)
    for part in batches(samples, _BATCH):
        count = len(next(iter(part.values())))
        for name, power in powers(as_tensors(part)).items():
            sums[name] = sums[name] + count * power.numpy().astype(np.float64)
    return {key: np.sqrt(sum(sums[name] for name, _ in several)) for key, several in read.items()}


def _reads(model: keras.Model, layers: dict[str, Any]) -> dict[str, Sequence[tuple[str, Any]]]:
    """Name the tensors that each layer reads, over all its calls."""
    keys = {id(layer): key for key, layer in layers.items() if "/" not in key}
    read: dict[str, list[tuple[str, Any]]] = {}
    for node in nodes_in_order(model):
        key = keys.get(id(node.operation))
        if key is not None and layers[key].kernel.shape[-2] == node.input_tensors[0].shape[-1]:  # not grouped
            tensor = node.input_tensors[0]
            operation, index, position = tensor._keras_history
            read.setdefault(key, []).append((f"{operation.name}.{index}.{position}", tensor))
    return dict(read)
