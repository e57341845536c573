"""Small models, one per way channels can be tied together; each is built fresh from a seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import layers as L

SIZE = 16


def conv(x: Any, width: int, name: str, kernel: int = 3, **kwargs: Any) -> Any:
    """Conv, batch norm, ReLU: the unit cell of most vision networks."""
    x = L.Conv2D(width, kernel, padding="same", name=name, **kwargs)(x)
    return L.ReLU(name=f"{name}_relu")(L.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x))


def image(channels: int = 3) -> Any:
    return keras.Input((SIZE, SIZE, channels), name="image")


def chain() -> keras.Model:
    i = image()
    x = conv(conv(i, 32, "one"), 32, "two")
    return keras.Model(i, L.Conv2D(5, 1, name="head")(x))


def residual_se_conv() -> keras.Model:
    i = image()
    x = conv(i, 32, "stem")
    y = conv(x, 48, "inner")
    y = L.Conv2D(32, 3, padding="same", name="outer")(y)
    s = L.GlobalAveragePooling2D(keepdims=True)(y)
    s = L.Conv2D(16, 1, activation="relu", name="squeeze")(s)
    s = L.Conv2D(32, 1, activation="sigmoid", name="excite")(s)
    x = L.Add()([x, L.Multiply()([y, s])])
    return keras.Model(i, L.Conv2D(4, 1, name="head")(x))


def residual_se_dense() -> keras.Model:
    i = image()
    x = conv(i, 32, "stem")
    s = L.GlobalAveragePooling2D()(x)
    s = L.Dense(16, activation="relu", name="squeeze")(s)
    s = L.Dense(32, activation="hard_sigmoid", name="excite")(s)
    x = L.Multiply()([x, L.Reshape((1, 1, 32), name="expand")(s)])
    return keras.Model(i, L.Conv2D(4, 1, name="head")(conv(x, 24, "after")))


def concat_add_two_outputs() -> keras.Model:
    i = image()
    a, b = conv(i, 24, "left"), conv(i, 40, "right")
    x = conv(L.Concatenate()([a, b]), 24, "merged")
    x = L.Add()([x, a])
    return keras.Model(i, [L.Conv2D(4, 1, name="heat")(x), L.Dense(3, name="label")(L.GlobalMaxPooling2D()(x))])


def flatten_dense() -> keras.Model:
    i = image()
    x = L.MaxPooling2D(4)(conv(i, 32, "body"))
    x = L.Dense(32, activation="gelu", name="hidden")(L.Flatten()(x))
    return keras.Model(i, L.Dense(10, activation="softmax", name="classes")(x))


def shared_in_series() -> keras.Model:
    i = image()
    shared = L.Conv2D(32, 3, padding="same", activation="relu", name="shared")
    x = shared(shared(conv(i, 32, "stem")))
    return keras.Model(i, L.Conv2D(4, 1, name="head")(x))


def shared_head_two_levels() -> keras.Model:
    i = image()
    one = conv(i, 32, "level1")
    two = conv(L.AveragePooling2D(2)(one), 32, "level2")
    tower = L.Conv2D(24, 3, padding="same", activation="relu", name="tower")
    head = L.Conv2D(4, 1, name="head")
    outputs = [L.Reshape((-1, 4))(head(tower(level))) for level in (one, two)]
    return keras.Model(i, L.Concatenate(axis=1, name="all")(outputs))


def nested() -> keras.Model:
    j = keras.Input((SIZE, SIZE, 32), name="inner_in")
    inner = keras.Model(j, conv(conv(j, 48, "a"), 32, "b"), name="backbone")
    i = image()
    x = inner(inner(conv(i, 32, "stem")))
    block = keras.Sequential([L.Conv2D(24, 1, name="p"), L.LeakyReLU(), L.Conv2D(32, 1, name="q")], name="block")
    return keras.Model(i, L.Conv2D(4, 1, name="head")(block(x)))


def sequential() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 3), name="image"),
            L.Conv2D(32, 3, name="a"),
            L.ReLU(),
            L.Conv2D(4, 3, name="b"),
        ]
    )


def separable_multiplier_prelu() -> keras.Model:
    i = image()
    x = L.SeparableConv2D(32, 3, depth_multiplier=2, padding="same", name="sep0")(conv(i, 24, "stem"))
    x = L.PReLU(shared_axes=[1, 2], name="prelu")(x)
    x = L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="relu", name="dw")(x)
    x = L.PReLU(name="prelu_all")(L.Conv2D(24, 1, name="pw")(x))
    return keras.Model(i, L.Conv2D(4, 1, name="head")(x))


def resize_dict_outputs() -> keras.Model:
    i = image()
    x = conv(i, 32, "stem", strides=2)
    up = L.UpSampling2D(interpolation="bilinear")(conv(x, 24, "deep"))
    up = L.Resizing(SIZE, SIZE)(up)
    outputs = {
        "zebra": L.Conv2D(2, 1, name="z")(up),
        "ant": L.Conv2D(3, 1, name="a", activation="sigmoid")(x),
    }
    return keras.Model(i, outputs)


def grouped() -> keras.Model:
    i = image()
    x = L.Conv2D(32, 3, groups=4, padding="same", name="group")(conv(i, 32, "stem"))
    return keras.Model(i, L.Conv2D(4, 1, name="head")(conv(x, 32, "after")))


def broadcast_attention() -> keras.Model:
    i = image()
    x = conv(i, 32, "stem")
    mask = L.Conv2D(1, 1, activation="sigmoid", name="mask")(x)
    return keras.Model(i, L.Conv2D(4, 1, name="head")(L.Multiply()([x, mask])))


def channel_slice() -> keras.Model:
    i = image()
    x = conv(i, 32, "stem")
    x = conv(x[..., 8:], 32, "after")
    return keras.Model(i, L.Conv2D(4, 1, name="head")(x[:, ::2, ::2]))


def ssd_head() -> keras.Model:
    i = image()
    one = conv(i, 32, "one", strides=2)
    two = conv(one, 48, "two", strides=2)
    boxes = [L.Reshape((-1, 4))(L.Conv2D(8, 3, padding="same", name=f"box{k}")(x)) for k, x in enumerate((one, two))]
    scores = [L.Reshape((-1, 3))(L.Conv2D(6, 3, padding="same", name=f"cls{k}")(x)) for k, x in enumerate((one, two))]
    return keras.Model(
        i,
        {
            "boxes": L.Concatenate(axis=1)(boxes),
            "scores": L.Activation("sigmoid")(L.Concatenate(axis=1)(scores)),
        },
    )


def detector_ops_tail() -> keras.Model:
    """Decode boxes inside the network with plain keras.ops, as exported detectors do."""
    i = image()
    x = conv(conv(i, 32, "stem", strides=2), 48, "body")
    cells = (SIZE // 2) ** 2
    steps = np.arange(SIZE // 2) * 2.0 + 1.0
    centre = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(1, cells, 2)
    sides = keras.ops.reshape(L.Conv2D(4, 1, name="ltrb")(conv(x, 32, "box_tower")), (-1, cells, 4))
    sides = keras.ops.exp(keras.ops.minimum(sides, 3.0)) * 2.0
    grid = centre.astype("float32")
    near, far = keras.ops.subtract(grid, sides[..., :2]), keras.ops.add(grid, sides[..., 2:])
    boxes = keras.ops.concatenate([near, far], axis=-1)
    scores = keras.ops.sigmoid(
        keras.ops.reshape(L.Conv2D(3, 1, name="cls")(conv(x, 32, "class_tower")), (-1, cells, 3))
    )
    return keras.Model(i, {"boxes": boxes, "scores": scores})


def plain_ops_body() -> keras.Model:
    """The element-wise, pooling and reshaping ops of keras.ops, between ordinary layers."""
    i = image()
    x = keras.ops.relu(L.Conv2D(32, 3, padding="same", name="a")(i)) * 0.5 + 1.0
    x = keras.ops.transpose(x, (0, 2, 1, 3))
    flat = keras.ops.reshape(x, (-1, SIZE * SIZE, 32))
    y = keras.ops.expand_dims(keras.ops.mean(flat, axis=1), axis=1)
    z = keras.ops.maximum(flat - y, keras.ops.tanh(y))
    return keras.Model(i, L.Dense(6, name="out")(z))


def transformer() -> keras.Model:
    """A text classifier: the stream, the heads and the feed-forward width are prunable."""
    i = keras.Input((12,), dtype="int32", name="tokens")
    x = L.Embedding(50, 32)(i)
    for k in range(2):
        a = L.MultiHeadAttention(2, 16, name=f"attention{k}")(x, x)
        x = L.LayerNormalization()(L.Add()([x, a]))
        x = L.Add()([x, L.Dense(32, name=f"down{k}")(L.Dense(64, activation="gelu", name=f"up{k}")(x))])
    return keras.Model(i, L.Dense(4, activation="softmax", name="probabilities")(L.GlobalAveragePooling1D()(x)))


def transposed_and_1d() -> keras.Model:
    i = keras.Input((SIZE, 6), name="signal")
    x = L.Conv1D(32, 3, padding="same", activation="relu", name="c1")(i)
    x = L.Conv1DTranspose(24, 3, strides=2, padding="same", activation="relu", name="t1")(x)
    x = L.Reshape((SIZE, 2, 24))(x)
    x = L.Conv2DTranspose(32, 3, padding="same", name="t2")(x)
    return keras.Model(i, L.Conv2D(4, 1, name="head")(L.ZeroPadding2D()(L.Dropout(0.3)(x))))


def two_inputs() -> keras.Model:
    i, j = image(), keras.Input((7,), name="facts")
    x = L.GlobalAveragePooling2D()(conv(i, 32, "stem"))
    y = L.Dense(32, activation="silu", name="facts_dense")(j)
    return keras.Model({"image": i, "facts": j}, L.Dense(4, name="out")(L.Average()([x, y])))


def constant_per_channel() -> keras.Model:
    i = image()
    x = conv(i, 32, "stem") + np.linspace(0, 1, 32, dtype="float32")
    return keras.Model(i, L.Conv2D(4, 1, name="head")(conv(x, 32, "after")))


GRAPHS: dict[str, Callable[[], keras.Model]] = {
    build.__name__: build
    for build in (
        chain,
        residual_se_conv,
        residual_se_dense,
        concat_add_two_outputs,
        flatten_dense,
        shared_in_series,
        shared_head_two_levels,
        nested,
        sequential,
        separable_multiplier_prelu,
        resize_dict_outputs,
        grouped,
        broadcast_attention,
        channel_slice,
        ssd_head,
        detector_ops_tail,
        plain_ops_body,
        transformer,
        transposed_and_1d,
        two_inputs,
        constant_per_channel,
    )
}


def build(name: str, seed: int = 0) -> keras.Model:
    """Build one graph; random biases and statistics too, so that no two channels are alike."""
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model = GRAPHS[name]()
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if weight.name in ("gamma", "moving_variance"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        elif len(weight.shape) == 1:
            weight.assign(random.uniform(0.1, 0.5, weight.shape))  # positive: no ReLU is dead everywhere
        if weight.name == "moving_mean":
            weight.assign(random.normal(0.0, 0.05, weight.shape))
    return model


def samples(model: keras.Model, count: int = 4, seed: int = 1) -> dict[str, Any]:
    """Draw inputs for a model: floats in [0, 1], or token ids where the input is an integer."""
    random = np.random.default_rng(seed)
    arrays: dict[str, Any] = {}
    for tensor in model.inputs:
        shape = (count, *tensor.shape[1:])
        integer = tensor.dtype.startswith("int")
        arrays[tensor.name] = (
            random.integers(0, 50, shape).astype(tensor.dtype) if integer else random.random(shape, np.float32)
        )
    return arrays
