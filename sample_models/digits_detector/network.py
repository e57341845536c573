"""Build the detector: a residual trunk, a small feature pyramid and two heads on a stride-4 grid."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

IMAGE_SIZE = 128
STRIDE = 4
CLASS_COUNT = 10
TRUNK_WIDTHS = (32, 64, 96, 128)  # stem and the stages at strides 4, 8 and 16
HEAD_WIDTH = 64
SCORE_PRIOR = 0.01  # initial score, as in RetinaNet (arXiv:1708.02002)
INITIAL_SIDE = 2.0  # initial distance from a cell centre to each side of its box, in cells


def cell_centres() -> npt.NDArray[np.float32]:
    """Return the (1024, 4) centres of the grid cells as x, y, x, y in pixels, row by row."""
    cells = IMAGE_SIZE // STRIDE
    ys, xs = np.mgrid[0:cells, 0:cells].astype(np.float32)
    centres = (np.stack([xs, ys, xs, ys], axis=-1) + 0.5) * STRIDE
    return centres.reshape(-1, 4).astype(np.float32)


def build_detector(width_multiplier: float = 1.0, head_widths: Sequence[int] = ()) -> keras.Model:
    """Return the untrained detector.

    Input "image" (128, 128, 3) in [0, 1]; outputs "boxes" (1024, 4) and "scores" (1024, 10).
    Boxes are xyxy in pixels and decoded inside the network; scores are sigmoid values per class.
    `width_multiplier` scales every hidden width, rounded to 16: the smaller nets that pruning has to beat.
    `head_widths`, where given: of the 3x3 convolutions of each head, instead of one as wide as the pyramid.
    """
    stem, low, middle, high = (_scaled(width, width_multiplier) for width in TRUNK_WIDTHS)
    head = _scaled(HEAD_WIDTH, width_multiplier)
    image = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), name="image")
    x = _conv_bn_relu(image, stem, 3, "stem", strides=2)
    x = _conv_bn_relu(x, low, 3, "low_down", strides=2)
    stride4 = _residual_block(x, low, "low_block")
    stride8 = _residual_block(stride4, middle, "middle_block1", strides=2)
    stride8 = _residual_block(stride8, middle, "middle_block2")
    stride16 = _residual_block(stride8, high, "high_block1", strides=2)
    stride16 = _residual_block(stride16, high, "high_block2")
    x = _upsample_and_join(stride16, stride8, middle, "neck8")
    x = _conv_bn_relu(x, middle, 3, "neck8_mix")
    x = _upsample_and_join(x, stride4, head, "neck4")
    widths = tuple(head_widths) or (head,)
    return keras.Model(image, {"boxes": _box_head(x, widths), "scores": _score_head(x, widths)}, name="digits_detector")


def _box_head(features: Any, widths: Sequence[int]) -> Any:
    x = _tower(features, widths, "box_conv")
    bias = keras.initializers.Constant(INITIAL_SIDE)
    x = keras.layers.Conv2D(4, 1, activation="relu", bias_initializer=bias, name="box_sides")(x)
    x = keras.layers.Reshape((-1, 4), name="box_rows")(x)
    sides_to_corners = [-float(STRIDE), -float(STRIDE), float(STRIDE), float(STRIDE)]
    return keras.layers.Rescaling(sides_to_corners, cell_centres().tolist(), name="boxes")(x)


def _score_head(features: Any, widths: Sequence[int]) -> Any:
    x = _tower(features, widths, "score_conv")
    bias = keras.initializers.Constant(float(np.log(SCORE_PRIOR / (1 - SCORE_PRIOR))))
    x = keras.layers.Conv2D(CLASS_COUNT, 1, activation="sigmoid", bias_initializer=bias, name="score_map")(x)
    return keras.layers.Reshape((-1, CLASS_COUNT), name="scores")(x)


def _tower(x: Any, widths: Sequence[int], name: str) -> Any:
    for number, width in enumerate(widths, 1):
        x = _conv_bn_relu(x, width, 3, name if number == 1 else f"{name}{number}")
    return x


def _upsample_and_join(coarse: Any, fine: Any, width: int, name: str) -> Any:
    x = keras.layers.UpSampling2D(2, interpolation="nearest", name=f"{name}_up")(coarse)
    x = keras.layers.Concatenate(name=f"{name}_concat")([x, fine])
    return _conv_bn_relu(x, width, 1, f"{name}_reduce")


def _residual_block(x: Any, width: int, name: str, strides: int = 1) -> Any:
    shortcut = x
    if strides != 1 or x.shape[-1] != width:
        shortcut = _conv_bn(x, width, 1, f"{name}_shortcut", strides)
    x = _conv_bn_relu(x, width, 3, f"{name}_conv1", strides)
    x = _conv_bn(x, width, 3, f"{name}_conv2")
    x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def _conv_bn_relu(x: Any, width: int, kernel: int, name: str, strides: int = 1) -> Any:
    return keras.layers.ReLU(name=f"{name}_relu")(_conv_bn(x, width, kernel, name, strides))


def _conv_bn(x: Any, width: int, kernel: int, name: str, strides: int = 1) -> Any:
    x = keras.layers.Conv2D(width, kernel, strides, padding="same", use_bias=False, name=name)(x)
    return keras.layers.BatchNormalization(momentum=0.97, name=f"{name}_bn")(x)


def _scaled(width: int, multiplier: float) -> int:
    return max(16, round(width * multiplier / 16) * 16)
