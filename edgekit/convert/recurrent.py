"""Unroll recurrent layers: a looped LSTM or GRU becomes a WHILE op that no quantizer accepts."""

from __future__ import annotations

from typing import Any

import keras

from edgekit.errors import UnsupportedError

# Every unrolled step repeats the cell's ops: beyond this, files are large and take minutes to convert.
MAX_STEPS = 256


def unrolled(model: keras.Model) -> keras.Model:
    """Return the model with every looped recurrent layer unrolled: same numbers, no loop.

    A model without such layers is returned as it is. Raises UnsupportedError where the sequence has no fixed
    length or more than ``MAX_STEPS`` steps.
    """
    looped = [layer for layer in model._flatten_layers(include_self=False) if _is_looped(layer)]
    if not looped:
        return model
    for layer in looped:
        _check_length(layer, model)
    nested = any(isinstance(layer, keras.Model) for layer in model.layers)
    clone = keras.models.clone_model(model, clone_function=_unroll, recursive=nested)
    clone.set_weights(model.get_weights())
    return clone


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


def _unroll(layer: Any) -> Any:
    """Rebuild one layer for ``clone_model``; operations that are not layers pass unchanged."""
    if not isinstance(layer, keras.layers.Layer):
        return layer
    config = layer.get_config()
    if isinstance(layer, keras.layers.Bidirectional):
        for key in ("layer", "backward_layer"):
            if config.get(key):
                config[key]["config"]["unroll"] = True
    elif isinstance(layer, keras.layers.RNN):
        config["unroll"] = True
    return type(layer).from_config(config)
