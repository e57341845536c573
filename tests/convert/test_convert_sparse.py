"""A .tflite without its zeros computes the same bits in LiteRT, and gets its zeros back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.tools import flatbuffer_utils
from keras import layers as L

from edgekit.convert import float_graph, tflite, tflite_sparse
from edgekit.runtimes import open_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

SHAPE = (1, 10, 10, 3)


def _sparse_network(share: float) -> keras.Model:
    i = keras.Input(SHAPE[1:], name="image")
    y = L.Conv2D(32, 3, activation="relu")(i)  # 3 inputs: compressed along its outputs
    y = L.DepthwiseConv2D(3)(y)
    y = L.Conv2D(64, 3, strides=2, activation="relu")(y)
    y = L.Conv2D(96, 1)(y)
    y = L.Dense(64, activation="relu")(L.Flatten()(y))
    model = keras.Model(i, L.Dense(10, activation="softmax", name="label")(y))
    generator = np.random.default_rng(1)
    for weight in model.trainable_weights:
        drawn = generator.normal(size=weight.shape)
        if len(weight.shape) > 1:
            drawn *= generator.random(weight.shape) >= share
        weight.assign(drawn.astype(np.float32) / np.sqrt(np.prod(weight.shape[:-1])))
    return model


def _inputs() -> Iterator[list[Any]]:
    generator = np.random.default_rng(2)
    for _ in range(6):
        yield [generator.random(SHAPE, np.float32)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("sparse")
    float_graph.export_keras(_sparse_network(0.8), folder / "saved")
    made = {"float32": tflite.float32(folder / "saved"), "float16": tflite.float16(folder / "saved")}
    for precision, calibrated in (("int8", True), ("int8-weights", False)):
        converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"))
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = _inputs if calibrated else None
        made[precision] = bytes(converter.convert())
    return made


def _outputs(content: bytes, folder: Path) -> list[Any]:
    path = folder / "model.tflite"
    path.write_bytes(content)
    session = open_model(path, "tflite")
    return [session.run(inputs)[0] for inputs in _inputs()]


@pytest.mark.parametrize(("precision", "largest"), [("float32", 0.35), ("float16", 0.45), ("int8", 0.9)])
def test_the_sparse_file_is_smaller_and_computes_the_same_bits(
    files: dict[str, bytes], precision: str, largest: float, tmp_path: Path
) -> None:
    dense = files[precision]
    sparse, names = tflite_sparse.encode(dense)
    assert len(sparse) < largest * len(dense)
    assert len(names) >= (2 if precision == "int8" else 4)
    np.testing.assert_array_equal(_outputs(sparse, tmp_path), _outputs(dense, tmp_path))
    again = tflite_sparse.decode(sparse)
    assert tflite_sparse.encode(again)[1] == names
    np.testing.assert_array_equal(_outputs(again, tmp_path), _outputs(dense, tmp_path))


def test_what_litert_refuses_to_load_stays_dense(files: dict[str, bytes], tmp_path: Path) -> None:
    """int8 weights of dense ops, and of dynamic-range files: once unpacked, LiteRT fails to delegate these ops."""
    float32, int8 = 0, 9
    assert set(_sparse_weights(files["int8"])) == {(int8, 4)}
    assert {kind for kind, _ in _sparse_weights(files["int8-weights"])} <= {float32}  # those too small to quantize
    sparse, _ = tflite_sparse.encode(files["int8-weights"])
    np.testing.assert_array_equal(_outputs(sparse, tmp_path), _outputs(files["int8-weights"], tmp_path))


def _sparse_weights(content: bytes) -> list[tuple[int, int]]:
    """Return the type and the number of dimensions of what is sparse after encoding."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(tflite_sparse.encode(content)[0]))
    return [(int(t.type), len(t.shape)) for t in model.subgraphs[0].tensors if t.sparsity is not None]


def test_the_compressed_dimension_is_the_one_that_leaves_least() -> None:
    generator = np.random.default_rng(0)
    narrow = generator.random((64, 3, 3, 3)) * (generator.random((64, 3, 3, 3)) < 0.2)
    assert tflite_sparse._smallest(narrow).order == (1, 2, 3, 0)
    wide = narrow.transpose(3, 1, 2, 0)
    assert tflite_sparse._smallest(wide).order == (0, 1, 2, 3)


def test_a_dense_network_is_left_as_it_is(tmp_path: Path) -> None:
    float_graph.export_keras(_sparse_network(0.0), tmp_path / "saved")
    dense = tflite.float32(tmp_path / "saved")
    assert tflite_sparse.encode(dense) == (dense, [])
    assert tflite_sparse.decode(dense) == dense
