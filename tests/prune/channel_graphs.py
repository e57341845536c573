"""Small models whose channels are moved, grouped, padded or scaled, each with the blocks that must be prunable."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import layers as L
from keras import ops

SIZE = 8


class Case(NamedTuple):
    """A model, and its blocks: the layers that make the channels, how many units, and channels per unit."""

    model: keras.Model
    blocks: list[tuple[tuple[str, ...], int, int]]


def _image(channels: int = 3) -> Any:
    return keras.Input((SIZE, SIZE, channels), name="image")


def _conv(x: Any, width: int, name: str, kernel: int = 3, **kwargs: Any) -> Any:
    return L.Conv2D(width, kernel, padding="same", activation="relu", name=name, **kwargs)(x)


def _case(image: Any, x: Any, *blocks: tuple[str, int] | tuple[str, int, int]) -> Case:
    """Put a head behind ``x``; a block is its layers, its units and, where not 1, the channels of each."""
    head = L.Conv2D(4, 1, name="head")(x) if len(x.shape) == 4 else L.Dense(4, name="head")(x)
    return Case(
        keras.Model(image, head),
        sorted((tuple(sorted(block[0].split())), block[1], block[2] if len(block) == 3 else 1) for block in blocks),
    )


def grouped_equally() -> Case:
    """Wide groups lose as many channels each: the n-th of every group is one unit."""
    i = _image()
    x = _conv(_conv(i, 32, "stem"), 64, "group", groups=2)
    return _case(i, x, ("stem", 16, 2), ("group", 32, 2))


def grouped_wholly() -> Case:
    """Narrow groups go as wholes, as in ResNeXt."""
    i = _image()
    x = _conv(_conv(i, 64, "stem"), 64, "group", groups=16)
    return _case(i, x, ("stem group", 16, 4))


def depthwise_as_groups() -> Case:
    i = _image()
    x = L.BatchNormalization()(_conv(_conv(i, 32, "stem"), 64, "group", groups=32))
    return _case(i, x, ("stem group", 32, 2))


def grouped_on_the_input() -> Case:
    i = _image(4)
    return _case(i, _conv(i, 32, "group", groups=2), ("group", 16, 2))


def grouped_shared() -> Case:
    i = _image()
    group = L.Conv2D(32, 3, padding="same", groups=8, name="group")
    x = group(L.ReLU()(group(_conv(i, 32, "stem"))))
    return _case(i, x, ("stem group", 8, 4))


def channel_shuffle() -> Case:
    """ShuffleNet: grouped 1x1, shuffle, depthwise, grouped 1x1, residual."""
    i = _image()
    stem = _conv(i, 64, "stem")
    x = _conv(stem, 32, "first", 1, groups=2)
    x = ops.reshape(x, (-1, SIZE, SIZE, 2, 16))
    x = L.Reshape((SIZE, SIZE, 32))(ops.transpose(x, (0, 1, 2, 4, 3)))
    x = L.DepthwiseConv2D(3, padding="same", name="depth")(x)
    x = L.Conv2D(64, 1, groups=2, name="second")(x)
    return _case(i, L.Add()([stem, x]), ("stem second", 32, 2), ("first", 8, 4))


def shuffled_by_permute() -> Case:
    i = _image()
    x = L.Reshape((SIZE * SIZE, 2, 16))(_conv(i, 32, "stem"))
    x = L.Reshape((SIZE, SIZE, 32))(L.Permute((1, 3, 2))(x))
    return _case(i, _conv(x, 16, "after"), ("stem", 16, 2), ("after", 16))


def split_in_equal_parts() -> Case:
    """C2f, ELAN: halves that go on differently."""
    i = _image()
    a, b = ops.split(_conv(i, 64, "stem"), 2, axis=-1)
    x = L.Concatenate()([a, b, _conv(b, 32, "deep")])
    # The stem's halves have different readers, so each is a block.
    return _case(i, x, ("stem", 32), ("stem", 32), ("deep", 32))


def split_at_places() -> Case:
    i = _image()
    a, b, c = ops.split(_conv(i, 56, "stem"), [16, 32], axis=-1)
    x = L.Concatenate()([_conv(a, 16, "one"), _conv(b, 16, "two"), L.AveragePooling2D(1)(c)])
    return _case(i, x, ("stem", 16), ("stem", 16), ("stem", 24), ("one", 16), ("two", 16))


def sliced_range() -> Case:
    i = _image()
    x = _conv(i, 48, "stem")
    x = L.Add()([_conv(x[..., :16], 24, "low"), _conv(x[..., 16:-8], 24, "mid"), _conv(x[:, :, :, -8:], 24, "high")])
    return _case(i, x, ("stem", 16), ("stem", 24), ("stem", 8), ("low mid high", 24))


def ghost_module() -> Case:
    """GhostNet makes too many channels on purpose and cuts them off."""
    i = _image()
    primary = _conv(i, 24, "primary", 1)
    cheap = L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="cheap")(primary)
    x = L.Concatenate()([primary, cheap])[..., :64]
    # Channels 0..23 have both cheap children, the last eight children are cut off.
    return _case(i, x, ("primary", 20), ("primary", 4))


def padded_shortcut() -> Case:
    """ResNet option A: zeros widen the shortcut, on both sides."""
    i = _image()
    stem = _conv(i, 32, "stem")
    shortcut = ops.pad(stem[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [8, 24]])
    x = L.Conv2D(64, 3, strides=2, padding="same", name="body")(stem)
    return _case(i, L.Add()([x, shortcut]), ("stem body", 32), ("body", 8), ("body", 24))


def gate_with_one_channel() -> Case:
    i = _image()
    x = _conv(i, 32, "stem")
    mask = L.Conv2D(1, 1, activation="sigmoid", name="mask")(x)
    return _case(i, ops.multiply(mask, x), ("stem", 32))


def constants_per_channel() -> Case:
    """Arrays in calls, on either side, and the vectors of Rescaling and Normalization."""
    i = _image()
    random = np.random.default_rng(0)
    numbers = [random.uniform(0.5, 1.5, 32).astype("float32") for _ in range(7)]
    x = ops.subtract(numbers[1], _conv(i, 32, "stem") + numbers[0].reshape(1, 1, 1, 32))
    x = ops.maximum(x, numbers[2])
    x = L.Rescaling(numbers[3], offset=numbers[4].tolist())(x)
    x = L.Normalization(mean=numbers[5], variance=numbers[6].tolist())(x)
    x = x - ops.convert_to_tensor(np.full((1, 1, 1, 1), 0.25, "float32"))
    return _case(i, _conv(x, 16, "after"), ("stem", 32), ("after", 16))


def adapted_normalization() -> Case:
    i = _image()
    layer = L.Normalization(name="adapted")
    case = _case(i, layer(_conv(i, 32, "stem")), ("stem", 32))
    layer.adapt_mean.assign(np.linspace(-1, 1, 32))
    layer.adapt_variance.assign(np.linspace(0.5, 2, 32))
    layer.finalize_state()
    return case


def excite_by_ops() -> Case:
    """Squeeze-excite with mean, expand_dims and a plain product, after MobileNetV3 in keras.ops."""
    i = _image()
    x = _conv(i, 48, "stem")
    s = L.Dense(16, activation="relu", name="squeeze")(ops.mean(x, axis=(1, 2)))
    s = ops.sigmoid(L.Dense(48, name="excite")(s))
    x = x * ops.expand_dims(ops.expand_dims(s, 1), 1)
    return _case(i, x, ("stem excite", 48), ("squeeze", 16))


def excite_by_broadcast() -> Case:
    """Keras' Multiply aligns (B, C) with (B, H, W, C) by itself; the squeeze is ops.max with kept axes."""
    i = _image()
    x = _conv(i, 48, "stem")
    s = L.Conv2D(16, 1, activation="relu", name="squeeze")(ops.max(x, axis=[1, 2], keepdims=True))
    s = L.Flatten()(L.Conv2D(48, 1, activation="hard_sigmoid", name="excite")(s))
    return _case(i, L.Multiply()([x, s]), ("stem excite", 48), ("squeeze", 16))


def group_norm() -> Case:
    """A group goes as a whole; one channel per group is instance normalization."""
    i = _image()
    x = L.GroupNormalization(8, name="groups")(L.Conv2D(64, 3, padding="same", name="one")(i))
    x = L.GroupNormalization(-1, name="instance")(L.Conv2D(32, 3, padding="same", name="two")(x))
    return _case(i, x, ("one", 8, 8), ("two", 32))


def anchors_inside() -> Case:
    """An SSD head whose coordinates are refined inside: all anchors of all levels lose the same ones."""
    i = _image()
    one = _conv(i, 16, "one")
    two = _conv(L.MaxPooling2D()(one), 16, "two")
    rows = [L.Reshape((-1, 16))(L.Conv2D(48, 3, name=f"box{k}")(x)) for k, x in enumerate((one, two))]
    x = L.Concatenate(axis=1)(rows)
    return _case(i, x, ("one", 16), ("two", 16), ("box0 box1", 16, 3))


def features_of_unknown_size() -> Case:
    """A head that is shared over (B, ?, ?, C) levels and flattened over space."""
    i = keras.Input((None, None, 3), name="image")
    x = L.Conv2D(32, 3, padding="same", activation="relu", name="stem")(i)
    x = L.Reshape((-1, 16))(L.Conv2D(48, 1, name="rows")(x))
    return _case(i, x, ("stem", 32), ("rows", 16, 3))


def channels_moved_and_back() -> Case:
    """Through channels-first order and a reshape over space, element-wise work between."""
    i = _image()
    x = ops.moveaxis(_conv(i, 32, "stem"), -1, 1)
    x = L.ReLU()(x * np.linspace(0.5, 1.5, 32, dtype="float32").reshape(32, 1, 1))
    x = ops.reshape(x, (-1, 32, SIZE * SIZE))
    x = ops.softmax(x, axis=-1) + ops.mean(x, axis=2, keepdims=True)
    x = ops.swapaxes(x, 1, 2)
    return _case(i, L.Dense(16, activation="relu", name="after")(x), ("stem", 32), ("after", 16))


def sub_pixels() -> Case:
    """Super resolution: one layer for depth to space, one by reshapes, one back."""
    i = _image()
    x = ops.nn.depth_to_space(_conv(i, 64, "stem"), 2)
    x = ops.reshape(_conv(x, 64, "deep"), (-1, 16, 16, 2, 2, 16))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 32, 32, 16))
    x = ops.nn.space_to_depth(x, 2)
    return _case(i, x, ("stem", 16, 4), ("deep", 16, 4))


def stacked_repeated_flipped() -> Case:
    i = _image()
    a, b = _conv(i, 32, "left"), _conv(i, 32, "right")
    x = ops.max(ops.stack([a, b], axis=-2), axis=-2)
    x = ops.concatenate([ops.repeat(x, 2, axis=-1), ops.tile(x, (1, 1, 1, 2)), ops.flip(x, axis=-1)], axis=-1)
    first, _ = ops.unstack(ops.reshape(x, (-1, 2, SIZE // 2, SIZE, 160)), 2, axis=1)
    return _case(i, first[..., ::-1], ("left right", 32))


def where_and_clip() -> Case:
    i = _image()
    a, b = _conv(i, 32, "left"), _conv(i, 32, "right")
    x = ops.where(ops.greater(a, b), a * 2.0, ops.clip(b, 0.0, 0.5))
    return _case(i, x, ("left right", 32))


def signal() -> Case:
    """One-dimensional: Conv1D, depthwise, separable and transposed, grouped, pooled, global average."""
    i = keras.Input((16, 4), name="signal")
    x = L.Conv1D(32, 3, padding="causal", activation="relu", name="a")(i)
    x = L.DepthwiseConv1D(3, depth_multiplier=2, padding="same", name="depth")(x)
    x = L.SeparableConv1D(32, 3, padding="same", activation="relu", name="b")(L.BatchNormalization()(x))
    x = L.Conv1DTranspose(32, 4, strides=2, padding="same", name="c")(L.MaxPooling1D(2)(x))
    x = L.Conv1D(32, 3, groups=2, activation="relu", name="d")(x)
    return _case(i, L.GlobalAveragePooling1D()(x), ("a", 32), ("b", 32), ("c", 16, 2), ("d", 16, 2))


def volume() -> Case:
    i = keras.Input((4, 4, 4, 2), name="volume")
    x = L.Conv3D(16, 3, padding="same", activation="relu", name="a")(i)
    x = L.Conv3DTranspose(16, 2, strides=2, name="b")(L.UpSampling3D(1)(x))
    x = L.Dense(32, name="c")(L.GlobalMaxPooling3D()(x))
    return _case(i, x, ("a", 16), ("b", 16), ("c", 32))


def nested_twice_with_slices() -> Case:
    """A nested model with an ops graph, called twice: its edits hold for both calls."""
    j = keras.Input((SIZE, SIZE, 32), name="inside")
    left, right = ops.split(L.Conv2D(64, 1, name="wide")(j), 2, axis=-1)
    y = L.Conv2D(32, 3, padding="same", name="back")(left * ops.sigmoid(right))
    gated = keras.Model(j, y + np.linspace(0, 1, 32, dtype="float32"), name="gated")
    i = _image()
    return _case(i, gated(gated(_conv(i, 32, "stem"))), ("stem gated/back", 32), ("gated/wide", 32, 2))


def layer_shared_over_inputs() -> Case:
    """Siamese: one tower, two images, difference and product."""
    i, j = _image(), keras.Input((SIZE, SIZE, 3), name="other")
    one, two = L.Conv2D(32, 3, name="tower"), L.Dense(16, name="embed")
    a, b = (two(L.Flatten()(L.MaxPooling2D(3)(one(x)))) for x in (i, j))
    x = L.Concatenate()([L.Subtract()([a, b]), a * b])
    return _case([i, j], x, ("tower", 32), ("embed", 16))


CASES: dict[str, Callable[[], Case]] = {
    build.__name__: build
    for build in (
        grouped_equally,
        grouped_wholly,
        depthwise_as_groups,
        grouped_on_the_input,
        grouped_shared,
        channel_shuffle,
        shuffled_by_permute,
        split_in_equal_parts,
        split_at_places,
        sliced_range,
        ghost_module,
        padded_shortcut,
        gate_with_one_channel,
        constants_per_channel,
        adapted_normalization,
        excite_by_ops,
        excite_by_broadcast,
        group_norm,
        anchors_inside,
        features_of_unknown_size,
        channels_moved_and_back,
        sub_pixels,
        stacked_repeated_flipped,
        where_and_clip,
        signal,
        volume,
        nested_twice_with_slices,
        layer_shared_over_inputs,
    )
}
