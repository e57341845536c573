"""A generous detector, as people have them: residual stages at strides 4 to 32, a pyramid, two heads at stride 4."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from benchmarks.blood_cells.prepare import CLASSES, SIZE

STRIDE = 4
STAGES = ((32, 2), (64, 2), (128, 2), (240, 2))  # width and blocks at strides 4, 8, 16 and 32
STEM, HEAD = 32, 64


def build(multiplier: float = 1.0) -> keras.Model:
    """Return the untrained detector; ``multiplier`` scales every hidden width, rounded to 16.

    Input "image" (160, 160, 3) in [0, 1]; outputs "boxes" (1600, 4) xyxy in pixels and "scores" (1600, 3).
    """
    head = _scaled(HEAD, multiplier)
    image = keras.Input((SIZE, SIZE, 3), name="image")
    x = _conv(image, _scaled(STEM, multiplier), 3, "stem", strides=2)
    levels = []
    for number, (width, blocks) in enumerate(STAGES):
        for block in range(blocks):
            x = _block(x, _scaled(width, multiplier), f"stage{number}_{block}", 2 if block == 0 else 1)
        levels.append(x)
    for number in (2, 1, 0):
        x = keras.layers.UpSampling2D(2, name=f"up{number}")(x)
        x = keras.layers.Concatenate(name=f"join{number}")([x, levels[number]])
        x = _conv(x, _scaled(STAGES[number][0], multiplier) if number else head, 1, f"reduce{number}")
    x = _conv(x, head, 3, "mix")
    return keras.Model(image, {"boxes": _boxes(x, head), "scores": _scores(x, head)}, name="blood_cells")


def _boxes(x: Any, width: int) -> Any:
    x = _conv(x, width, 3, "box_conv")
    x = keras.layers.Conv2D(4, 1, activation="relu", bias_initializer=keras.initializers.Constant(4.0), name="sides")(x)
    x = keras.layers.Reshape((-1, 4), name="box_rows")(x)
    ys, xs = np.mgrid[0 : SIZE // STRIDE, 0 : SIZE // STRIDE].astype(np.float32)
    centres = ((np.stack([xs, ys, xs, ys], axis=-1) + 0.5) * STRIDE).reshape(-1, 4)
    signs = [-float(STRIDE), -float(STRIDE), float(STRIDE), float(STRIDE)]
    return keras.layers.Rescaling(signs, centres.tolist(), name="boxes")(x)


def _scores(x: Any, width: int) -> Any:
    x = _conv(x, width, 3, "score_conv")
    prior = keras.initializers.Constant(float(np.log(0.01 / 0.99)))
    x = keras.layers.Conv2D(len(CLASSES), 1, activation="sigmoid", bias_initializer=prior, name="score_map")(x)
    return keras.layers.Reshape((-1, len(CLASSES)), name="scores")(x)


def _block(x: Any, width: int, name: str, strides: int) -> Any:
    shortcut = _conv(x, width, 1, f"{name}_shortcut", strides, relu=False) if strides != 1 else x
    x = _conv(x, width, 3, f"{name}_conv1", strides)
    x = _conv(x, width, 3, f"{name}_conv2", relu=False)
    return keras.layers.ReLU(name=f"{name}_relu")(keras.layers.Add(name=f"{name}_add")([x, shortcut]))


def _conv(x: Any, width: int, kernel: int, name: str, strides: int = 1, relu: bool = True) -> Any:
    x = keras.layers.Conv2D(width, kernel, strides, padding="same", use_bias=False, name=name)(x)
    x = keras.layers.BatchNormalization(momentum=0.97, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x) if relu else x


def _scaled(width: int, multiplier: float) -> int:
    return max(16, round(width * multiplier / 16) * 16)
