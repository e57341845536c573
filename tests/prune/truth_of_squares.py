"""Coloured squares on a dark ground: images whose boxes are known, and small detectors of both kinds."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers as L

from edgekit.dataset import Boxes

SIZE, STRIDE = 32, 4
PLACES = SIZE // STRIDE


def scenes(count: int, seed: int = 0) -> tuple[np.ndarray[Any, Any], list[Boxes]]:
    """Draw one or two squares per image, class 0 red and class 1 green, in different halves."""
    generator = np.random.default_rng(seed)
    images = generator.uniform(0.0, 0.1, (count, SIZE, SIZE, 3)).astype(np.float32)
    truth = []
    for image in images:
        boxes, classes = [], []
        for half in range(generator.integers(1, 3)):
            side, category = int(generator.integers(7, 13)), int(generator.integers(0, 2))
            x = int(generator.integers(0, SIZE // 2 - side + 1)) + half * SIZE // 2
            y = int(generator.integers(0, SIZE - side + 1))
            image[y : y + side, x : x + side, category] += 0.8
            boxes.append([x, y, x + side, y + side])
            classes.append(category)
        truth.append(Boxes(np.array(boxes, np.float32), np.array(classes, np.int64)))
    return images, truth


def dense_detector() -> keras.Model:
    """Boxes (64, 4) as corners in pixels around the places of a map, scores (64, 2); untrained."""
    image, x = _trunk()
    prior = keras.initializers.Constant(-3.0)
    scores = L.Conv2D(2, 1, activation="sigmoid", bias_initializer=prior)(x)
    sides = L.Conv2D(4, 1, activation="softplus", bias_initializer="ones")(x)
    ys, xs = np.mgrid[:PLACES, :PLACES].astype(np.float32)
    centres = ((np.stack([xs, ys, xs, ys], -1) + 0.5) * STRIDE).reshape(-1, 4)
    boxes = L.Rescaling([-4.0, -4.0, 4.0, 4.0], centres.tolist())(L.Reshape((-1, 4))(sides))
    outputs = {"boxes": L.Identity(name="boxes")(boxes), "scores": L.Reshape((-1, 2), name="scores")(scores)}
    return keras.Model(image, outputs)


def heat_detector() -> keras.Model:
    """Maps "scores" (8, 8, 2), "boxes" (8, 8, 2) in places and "offsets" (8, 8, 2); untrained."""
    image, x = _trunk()
    prior = keras.initializers.Constant(-3.0)
    outputs = {
        "scores": L.Conv2D(2, 1, activation="sigmoid", bias_initializer=prior, name="scores")(x),
        "boxes": L.Conv2D(2, 1, activation="softplus", name="boxes")(x),
        "offsets": L.Conv2D(2, 1, activation="sigmoid", name="offsets")(x),
    }
    return keras.Model(image, outputs)


def _trunk() -> tuple[Any, Any]:
    keras.utils.set_random_seed(0)
    x = image = keras.Input((SIZE, SIZE, 3), name="image")
    for width, strides in ((16, 2), (24, 2), (32, 1), (32, 1), (32, 1)):
        x = L.Conv2D(width, 3, strides, padding="same", use_bias=False)(x)
        x = L.ReLU()(L.BatchNormalization(momentum=0.9)(x))
    return image, x
