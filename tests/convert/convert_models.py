"""Tiny Keras models, each with one thing converters are known to get wrong, and the runs around them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from edgekit.convert import float_graph, onnx, parity, tflite
from edgekit.runtimes import litert, ort

Arrays = dict[str, npt.NDArray[Any]]
RUNTIMES = {"tflite": litert.open_model, "onnx": ort.open_model}


def detector() -> keras.Model:
    """Residual convolutions with batch norm, nearest up-sampling, boxes in pixels beside scores."""
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(8, 3, padding="same")(x)
    x = layers.ReLU()(layers.Add()([x, y]))
    z = layers.UpSampling2D(2)(layers.MaxPooling2D()(x))
    x = layers.Concatenate()([x, z])
    boxes = layers.Reshape((64, 4))(layers.Conv2D(4, 1)(x))
    boxes = layers.Rescaling(16.0, offset=8.0, name="boxes")(boxes)
    scores = layers.Reshape((64, 2))(layers.Conv2D(2, 1, activation="sigmoid")(x))
    return _filled(keras.Model(image, {"boxes": boxes, "scores": scores}))


def gelu() -> keras.Model:
    inputs = keras.Input((12,), name="features")
    return _filled(keras.Model(inputs, layers.Dense(4, name="out")(layers.Dense(8, activation="gelu")(inputs))))


def attention() -> keras.Model:
    """Token ids into one transformer block with exact GELU and layer norms."""
    tokens = keras.Input((8,), dtype="int32", name="tokens")
    x = layers.Embedding(20, 16)(tokens)
    x = layers.LayerNormalization()(x + layers.MultiHeadAttention(2, 8)(x, x))
    x = layers.LayerNormalization()(x + layers.Dense(16)(layers.Dense(32, activation="gelu")(x)))
    return _filled(keras.Model(tokens, layers.Dense(3, name="logits")(layers.GlobalAveragePooling1D()(x))))


def normalized() -> keras.Model:
    """A Normalization layer whose mean and variance are captured constants."""
    norm = layers.Normalization(name="norm")
    norm.adapt(np.random.default_rng(0).normal(5, 3, (64, 6)).astype(np.float32))
    inputs = keras.Input((6,), name="features")
    return _filled(keras.Model(inputs, layers.Dense(3, name="out")(norm(inputs))))


def resized() -> keras.Model:
    """Resizing before BatchNormalization, which then runs in training mode unless told otherwise."""
    image = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(4, 3)(layers.Resizing(8, 8)(image))
    x = layers.BatchNormalization()(x)
    return _filled(keras.Model(image, layers.GlobalAveragePooling2D(name="out")(x)))


def recurrent(kind: str = "LSTM", steps: int | None = 6) -> keras.Model:
    inputs = keras.Input((steps, 4), name="sequence")
    layer = {
        "LSTM": lambda: layers.LSTM(5),
        "GRU": lambda: layers.GRU(5),
        "bidirectional": lambda: layers.Bidirectional(layers.LSTM(5, return_sequences=True)),
    }[kind]()
    x = layer(inputs)
    if kind == "bidirectional":
        x = layers.Flatten()(x)
    return _filled(keras.Model(inputs, layers.Dense(2, name="out")(x)))


def two_inputs() -> keras.Model:
    """Two inputs of different type, outputs as a list of layers."""
    image = keras.Input((8, 8, 1), name="z_image")
    extra = keras.Input((3,), name="a_extra")
    x = layers.Concatenate()([layers.Flatten()(layers.Conv2D(2, 3)(image)), extra])
    return _filled(keras.Model([image, extra], [layers.Dense(2, name="first")(x), layers.Dense(1, name="other")(x)]))


def gated() -> keras.Model:
    """Depthwise convolution, hard-swish and a squeeze-excite gate."""
    image = keras.Input((16, 16, 8), name="image")
    x = layers.Activation("hard_silu")(layers.DepthwiseConv2D(3, padding="same")(image))
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(8, 1, activation="sigmoid")(layers.Conv2D(4, 1, activation="relu")(gate))
    x = layers.Conv2D(8, 1)(layers.Multiply()([x, gate]))
    x = layers.Conv2DTranspose(4, 3, strides=2, padding="same")(x)
    return _filled(keras.Model(image, layers.Softmax(name="out")(layers.Dense(3)(layers.Flatten()(x)))))


def _filled(model: keras.Model) -> keras.Model:
    """Give every weight a fixed random value; variances stay positive."""
    random = np.random.default_rng(1)
    for weight in model.weights:
        if "float" not in str(weight.dtype) or weight.path.startswith("norm/"):
            continue
        scale = 1.0 / max(1.0, np.sqrt(np.prod(weight.shape[:-1])))
        values = random.normal(0, scale, weight.shape)
        if "variance" in weight.path:
            values = 0.5 + np.abs(values)
        weight.assign(values.astype(np.float32))
    return model


def samples(model: keras.Model, count: int = 4) -> Arrays:
    random = np.random.default_rng(2)
    found: Arrays = {}
    for tensor in model.inputs:
        shape = (count, *tensor.shape[1:])
        if "int" in str(tensor.dtype):
            found[tensor.name] = random.integers(0, 20, shape).astype(np.int32)
        else:
            found[tensor.name] = random.normal(0, 1, shape).astype(np.float32)
    return found


def converted(saved_model: Path, format: str) -> bytes:
    convert: dict[str, Callable[[Path], bytes]] = {"tflite": tflite.float32, "onnx": onnx.float32}
    return convert[format](saved_model)


def outputs_of(content: bytes, format: str, inputs: Arrays, folder: Path) -> Arrays:
    """Run a model file in its real runtime, sample by sample."""
    path = folder / f"run.{format}"
    path.write_bytes(content)
    session = RUNTIMES[format](str(path), 1)
    count = len(next(iter(inputs.values())))
    rows = [session.run([inputs[entry["name"]][i : i + 1] for entry in session.inputs]) for i in range(count)]
    names = [entry["name"] for entry in session.outputs]
    return {name: np.concatenate([row[k] for row in rows]) for k, name in enumerate(names)}


def check_chain(model: keras.Model, format: str, folder: Path) -> bytes:
    """Export, convert and compare with ``model(x, training=False)``; returns the float file."""
    inputs = samples(model)
    float_graph.export_keras(model, folder / "saved")
    content = converted(folder / "saved", format)
    found = parity.compare(float_graph.reference(model, inputs), outputs_of(content, format, inputs, folder))
    assert found.passed, found.problem
    return content
