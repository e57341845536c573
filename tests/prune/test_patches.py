"""Rows times the flattened kernel are the layer's outputs, whatever its stride, dilation and padding."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from edgekit.prune.repair.patches import window_of

pytestmark = pytest.mark.slow

LAYERS = {
    "conv1d_causal": (lambda: keras.layers.Conv1D(4, 3, padding="causal", dilation_rate=2), (11, 3)),
    "conv2d_same_strided": (lambda: keras.layers.Conv2D(5, (3, 2), strides=2, padding="same"), (9, 8, 3)),
    "conv2d_valid": (lambda: keras.layers.Conv2D(5, 3, strides=(1, 3)), (9, 11, 2)),
    "conv2d_dilated": (lambda: keras.layers.Conv2D(5, 3, dilation_rate=(2, 3), padding="same"), (9, 11, 2)),
    "conv3d": (lambda: keras.layers.Conv3D(2, 2, padding="same"), (4, 5, 3, 2)),
    "dense": (lambda: keras.layers.Dense(6), (7,)),
    "dense_over_positions": (lambda: keras.layers.Dense(6), (5, 4, 7)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_rows_are_what_the_kernel_reads(name: str) -> None:
    make, shape = LAYERS[name]
    layer: Any = make()
    given = tf.constant(np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32))
    expected = layer(given).numpy()
    window = window_of(layer)
    assert window is not None
    places = window.positions((3, *shape))
    assert places * 3 * expected.shape[-1] == expected.size
    rows = window.rows(given, tf.range(places)).numpy()
    found = rows @ layer.kernel.numpy().reshape(-1, expected.shape[-1])
    np.testing.assert_allclose(found, expected.reshape(-1, expected.shape[-1]), atol=1e-5)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.DepthwiseConv2D(3),
        keras.layers.Conv2DTranspose(4, 3),
        keras.layers.Conv2D(4, 3, groups=2),
        keras.layers.BatchNormalization(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_other_layers_have_no_window(layer: Any) -> None:
    assert window_of(layer) is None
