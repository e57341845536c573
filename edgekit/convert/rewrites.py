"""Rewrite layers that convert badly into exact equivalents, before the export.

A looped LSTM or GRU becomes a WHILE op that no quantizer accepts: it is unrolled. Nearest up-sampling becomes
a chain of TILE and RESHAPE ops without int8 kernels: it is written as the resize op every runtime has.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from edgekit.errors import UnsupportedError

# Every unrolled step repeats the cell's ops: beyond this, files are large and take minutes to convert.
MAX_STEPS = 256


class _NearestResize(keras.layers.Layer):  # type: ignore[misc]
    """Repeat rows and columns a whole number of times with one resize op (channels last)."""

    def __init__(self, size: tuple[int, int], name: str) -> None:
        super().__init__(name=name)
        self.factors = size

    def call(self, images: Any) -> Any:
        height, width = images.shape[1] * self.factors[0], images.shape[2] * self.factors[1]
        # Corner-aligned sampling (no half pixels): floor(i / factor), which is what repeating means.
        return tf.raw_ops.ResizeNearestNeighbor(images=images, size=[height, width])


def rewritten(model: keras.Model) -> keras.Model:
    """Return the model with these layers replaced: same numbers, same weights. Without any, the model itself.

    Raises UnsupportedError for a recurrent layer over an open length or more than ``MAX_STEPS`` steps.
    """
    layers = list(model._flatten_layers(include_self=False))
    looped = [layer for layer in layers if _is_looped(layer)]
    for layer in looped:
        _check_length(layer, model)
    if not looped and not any(_repeats(layer) for layer in layers):
        return model
    nested = any(isinstance(layer, keras.Model) for layer in model.layers)
    clone = keras.models.clone_model(model, clone_function=_rebuild, recursive=nested)
    clone.set_weights(model.get_weights())
    return clone


def _repeats(layer: Any) -> bool:
    return (
        isinstance(layer, keras.layers.UpSampling2D)
        and layer.interpolation == "nearest"
        and layer.data_format == "channels_last"
        and all(None not in node.input_tensors[0].shape[1:] for node in layer._inbound_nodes)
    )


def _is_looped(layer: Any) -> bool:
    return isinstance(layer, keras.layers.RNN) and not layer.unroll


def _check_length(layer: Any, model: keras.Model) -> None:
    steps = _steps(layer, model)
    if steps is None:
        raise UnsupportedError(
            f"recurrent layer '{layer.name}' reads a sequence without a fixed length",
            "Give the model's Input a fixed number of steps, so that the layer can be unrolled.",
        )
    if steps > MAX_STEPS:
        raise UnsupportedError(
            f"recurrent layer '{layer.name}' has {steps} steps; loops are unrolled only up to {MAX_STEPS}",
            "Shorten the sequence, or replace the layer by convolutions or attention.",
        )


def _steps(layer: Any, model: keras.Model) -> int | None:
    """Find the sequence length a layer (or its wrapper) reads; None where any call leaves it open."""
    owners = [layer, *(other for other in model._flatten_layers(include_self=False) if _wraps(other, layer))]
    lengths = [
        node.input_tensors[0].shape[1]
        for owner in owners
        for node in owner._inbound_nodes
        if len(node.input_tensors[0].shape) >= 3
    ]
    if not lengths or any(length is None for length in lengths):
        return None
    return max(int(length) for length in lengths)


def _wraps(other: Any, layer: Any) -> bool:
    return isinstance(other, keras.layers.Bidirectional) and layer in (
        other.forward_layer,
        other.backward_layer,
    )


def _rebuild(layer: Any) -> Any:
    """Rebuild one layer for ``clone_model``; operations that are not layers pass unchanged."""
    if not isinstance(layer, keras.layers.Layer):
        return layer
    if _repeats(layer):
        return _NearestResize(tuple(layer.size), layer.name)
    config = layer.get_config()
    if isinstance(layer, keras.layers.Bidirectional):
        for key in ("layer", "backward_layer"):
            if config.get(key):
                config[key]["config"]["unroll"] = True
    elif isinstance(layer, keras.layers.RNN):
        config["unroll"] = True
    return type(layer).from_config(config)
