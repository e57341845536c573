"""Small Keras networks for fine-tuning, and a fault in them that int8 pays for."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

Array = npt.NDArray[Any]


def depthwise_classifier() -> keras.Model:
    """Depthwise and pointwise convolutions with batch norm and ReLU, for (28, 28, 1) images of 10 classes."""

    def block(x: Any, layer: Any) -> Any:
        return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(layer(x)))

    x = image = keras.Input((28, 28, 1), name="image")
    x = block(x, layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False))
    for width, stride in ((24, 1), (32, 2), (48, 1)):
        x = block(x, layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False))
        x = block(x, layers.Conv2D(width, 1, use_bias=False))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(10, activation="softmax", name="classes")(x))


def rescale_channels(model: keras.Model, octaves: float, seed: int) -> None:
    """Make channels up to 2 ** octaves smaller, and what reads them as much larger: the float function stays."""
    random = np.random.default_rng(seed)
    for position, layer in enumerate(model.layers):
        if not isinstance(layer, layers.BatchNormalization):
            continue
        reader = next(each for each in model.layers[position + 1 :] if len(np.shape(each.weights[:1])) and each.weights)
        factors = 2.0 ** random.uniform(-octaves, 0, layer.gamma.shape[0]).astype(np.float32)
        layer.gamma.assign(layer.gamma.numpy() * factors)
        layer.beta.assign(layer.beta.numpy() * factors)
        kernel = reader.weights[0]
        kernel.assign(kernel.numpy() / factors[:, None])  # both (.., in, out) and (h, w, in, multiplier)


def every_construct() -> keras.Model:
    """Normalization in front, a nested model, a shared layer, a residual add, functions, and decoding behind."""
    inner_input = keras.Input((8, 8, 6))
    inner = keras.Model(inner_input, layers.Conv2D(6, 3, padding="same", activation="relu")(inner_input), name="inner")
    x = image = keras.Input((8, 8, 3), name="image")
    x = layers.Rescaling(1 / 128.0, offset=-1.0)(x)
    x = layers.ReLU(max_value=6.0)(layers.BatchNormalization()(layers.Conv2D(6, 3, padding="same")(x)))
    shared = layers.DepthwiseConv2D(3, padding="same", name="shared")
    x = layers.Add()([x, shared(shared(inner(x)))])
    x = layers.Dropout(0.5)(x)
    pooled = keras.ops.mean(x, axis=(1, 2))
    scores = layers.Dense(4, name="logits")(pooled)
    return keras.Model(image, {"scores": keras.ops.sigmoid(scores), "sum": keras.ops.sum(scores, axis=-1)})


def images(count: int, shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).uniform(0, 255, (count, *shape)).astype(np.float32)
