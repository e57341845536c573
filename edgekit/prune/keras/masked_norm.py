"""The reference for a narrower LayerNormalization: the same layer, blind to the removed channels."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt


def normalize_over(layer: Any, living: npt.NDArray[np.bool_]) -> None:
    """Make a Layer- or RMSNormalization take its mean and variance over the ``living`` channels alone, in place.

    The outputs of the others stay finite and mean nothing: the weights that read them have to be zero.
    """
    if isinstance(layer, keras.layers.TimeDistributed):
        normalize_over(layer.layer, living)
        return
    centred = isinstance(layer, keras.layers.LayerNormalization)
    mask = living.astype("float32")
    count = float(np.count_nonzero(living))

    def call(inputs: Any) -> Any:
        values = keras.ops.cast(inputs, "float32")
        if centred:
            values = values - keras.ops.sum(values * mask, axis=-1, keepdims=True) / count
        power = keras.ops.sum(values * values * mask, axis=-1, keepdims=True) / count
        values = values * keras.ops.rsqrt(power + (layer.epsilon or keras.config.epsilon()))
        if centred:
            values = values * (1.0 if layer.gamma is None else layer.gamma) + (
                0.0 if layer.beta is None else layer.beta
            )
        else:
            values = values * layer.scale
        return keras.ops.cast(values, layer.compute_dtype)

    layer.call = call  # an instance's own: the class keeps its
