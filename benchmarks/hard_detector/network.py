"""Build the detector: MobileNetV3's blocks (arXiv:1905.02244), a separable pyramid and two heads, stride 4."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from sample_models.digits_detector.network import (
    CLASS_COUNT,
    IMAGE_SIZE,
    INITIAL_SIDE,
    SCORE_PRIOR,
    STRIDE,
    cell_centres,
)

STEM_WIDTH = 32
HEAD_WIDTH = 128
SQUEEZE = 4  # a squeeze-excite unit has a quarter of its block's channels


@dataclass(frozen=True)
class Block:
    """An inverted residual: expand to ``expansion`` channels, depthwise ``kernel``, project to ``width``."""

    kernel: int
    expansion: int
    width: int
    excite: bool
    activation: str
    strides: int


BLOCKS = (
    Block(3, 32, 32, False, "relu", 1),
    Block(3, 96, 48, False, "relu", 2),
    Block(3, 144, 48, False, "relu", 1),
    Block(5, 144, 80, True, "relu", 2),
    Block(5, 240, 80, True, "relu", 1),
    Block(3, 480, 160, False, "hard_swish", 2),
    Block(3, 400, 160, False, "hard_swish", 1),
    Block(3, 960, 224, True, "hard_swish", 1),
    Block(3, 960, 224, True, "hard_swish", 1),
)
AT_STRIDE_4, AT_STRIDE_8 = 2, 4  # the last block of each stage that the pyramid reads


def build_detector() -> keras.Model:
    """Return the untrained detector.

    Input "image" (128, 128, 3) in [0, 1]; outputs "boxes" (1024, 4) xyxy in pixels and "scores" (1024, 10)
    in [0, 1]: those of the sample, so that its data, loss and metric serve both.
    """
    image = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 3), name="image")
    x = _conv_bn(image, STEM_WIDTH, 3, "stem", "hard_swish", strides=2)
    stages = []
    for index, block in enumerate(BLOCKS):
        x = _inverted_residual(x, block, f"block{index}")
        stages.append(x)
    x = _conv_bn(x, HEAD_WIDTH, 1, "neck16", "hard_swish")
    x = _upsample_and_join(x, stages[AT_STRIDE_8], "neck8")
    x = _separable(x, HEAD_WIDTH, "neck8_mix")
    x = _upsample_and_join(x, stages[AT_STRIDE_4], "neck4")
    return keras.Model(image, {"boxes": _box_head(x), "scores": _score_head(x)}, name="hard_detector")


def in_one_tensor(detector: keras.Model) -> keras.Model:
    """Return the same network with one output "detections" (1024, 14): the box in pixels, then the scores."""
    outputs = detector.output
    joined = keras.layers.Concatenate(name="detections")([outputs["boxes"], outputs["scores"]])
    return keras.Model(detector.input, {"detections": joined}, name="hard_detector_detections")


def _box_head(features: Any) -> Any:
    x = _separable(features, HEAD_WIDTH, "box_mix")
    bias = keras.initializers.Constant(INITIAL_SIDE)
    x = keras.layers.Conv2D(4, 1, activation="relu", bias_initializer=bias, name="box_sides")(x)
    x = keras.layers.Reshape((-1, 4), name="box_rows")(x)
    sides_to_corners = [-float(STRIDE), -float(STRIDE), float(STRIDE), float(STRIDE)]
    return keras.layers.Rescaling(sides_to_corners, cell_centres().tolist(), name="boxes")(x)


def _score_head(features: Any) -> Any:
    x = _separable(features, HEAD_WIDTH, "score_mix")
    bias = keras.initializers.Constant(float(np.log(SCORE_PRIOR / (1 - SCORE_PRIOR))))
    x = keras.layers.Conv2D(CLASS_COUNT, 1, activation="sigmoid", bias_initializer=bias, name="score_map")(x)
    return keras.layers.Reshape((-1, CLASS_COUNT), name="scores")(x)


def _inverted_residual(x: Any, block: Block, name: str) -> Any:
    shortcut = x
    if block.expansion != x.shape[-1]:
        x = _conv_bn(x, block.expansion, 1, f"{name}_expand", block.activation)
    x = _depthwise_bn(x, block.kernel, f"{name}_depthwise", block.activation, block.strides)
    if block.excite:
        x = _squeeze_excite(x, f"{name}_se")
    x = _conv_bn(x, block.width, 1, f"{name}_project", "linear")
    if block.strides == 1 and shortcut.shape[-1] == block.width:
        x = keras.layers.Add(name=f"{name}_add")([x, shortcut])
    return x


def _squeeze_excite(x: Any, name: str) -> Any:
    width = x.shape[-1]
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    gate = keras.layers.Conv2D(width // SQUEEZE, 1, activation="relu", name=f"{name}_reduce")(gate)
    gate = keras.layers.Conv2D(width, 1, activation="hard_sigmoid", name=f"{name}_expand")(gate)
    return keras.layers.Multiply(name=f"{name}_scale")([x, gate])


def _upsample_and_join(coarse: Any, fine: Any, name: str) -> Any:
    x = keras.layers.UpSampling2D(2, interpolation="nearest", name=f"{name}_up")(coarse)
    x = keras.layers.Concatenate(name=f"{name}_concat")([x, fine])
    return _conv_bn(x, HEAD_WIDTH, 1, f"{name}_reduce", "hard_swish")


def _separable(x: Any, width: int, name: str) -> Any:
    x = _depthwise_bn(x, 5, f"{name}_depthwise", "hard_swish")
    return _conv_bn(x, width, 1, f"{name}_pointwise", "hard_swish")


def _depthwise_bn(x: Any, kernel: int, name: str, activation: str, strides: int = 1) -> Any:
    x = keras.layers.DepthwiseConv2D(kernel, strides, padding="same", use_bias=False, name=name)(x)
    return _bn(x, name, activation)


def _conv_bn(x: Any, width: int, kernel: int, name: str, activation: str, strides: int = 1) -> Any:
    x = keras.layers.Conv2D(width, kernel, strides, padding="same", use_bias=False, name=name)(x)
    return _bn(x, name, activation)


def _bn(x: Any, name: str, activation: str) -> Any:
    # Small channels must stay small, not vanish: epsilon below their variance.
    x = keras.layers.BatchNormalization(momentum=0.97, epsilon=1e-5, name=f"{name}_bn")(x)
    return x if activation == "linear" else keras.layers.Activation(activation, name=f"{name}_{activation}")(x)
