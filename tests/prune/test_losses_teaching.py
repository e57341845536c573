from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from edgekit import keras_io
from edgekit.dataset import Boxes, Dataset, Preprocess
from edgekit.errors import RecipeError
from edgekit.prune.keras.signature import as_tensors, call
from edgekit.prune.recovery.losses import Teaching, teaching
from edgekit.source.keras_file import compiled_loss

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array__ implementation")]  # Keras, saving

Array = np.ndarray[Any, Any]
AS_STORED = Preprocess(None, "rgb", (0.0,), (1.0,))
COUNT, CLASSES = 12, 3
CLASSIFICATION = {"kind": "classification"}
GENERIC = {"kind": "generic"}
NUMBERS = np.arange(COUNT) % CLASSES


def inputs() -> dict[str, Array]:
    return {"x": np.random.default_rng(0).normal(size=(COUNT, 4)).astype(np.float32)}


def classifier(activation: str | None = "softmax") -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    return keras.Model(x, L.Dense(CLASSES, activation, name="classes")(x))


def two_outputs(by_name: bool) -> keras.Model:
    x = keras.Input((4,), name="x")
    side, main = L.Dense(2, name="side")(x), L.Dense(CLASSES, "softmax", name="main")(x)
    return keras.Model(x, {"main": main, "side": side} if by_name else [side, main])


def taught(
    model: keras.Model, truth: Any, task: dict[str, Any], source: Path | None = None, adapter: Path | None = None,
    labelled: bool = True,
) -> Teaching:  # fmt: skip
    samples = Dataset(Path("train.npz"), AS_STORED, arrays=inputs(), truth=truth)
    return teaching(model, inputs(), samples, labelled, task, adapter, source)


def value(found: Teaching, model: keras.Model) -> float:
    """Return the loss of the model's own outputs, as recovery computes it."""
    assert found.loss is not None
    assert found.labels is not None
    loss, known = found.loss, as_tensors(found.labels)
    return float(tf.function(lambda batch: loss(call(model, batch), known))(as_tensors(inputs())))


def saved(model: keras.Model, loss: Any, path: Path) -> Path:
    model.compile("adam", loss)
    model.save(path)
    return path


def own_cross_entropy(model: keras.Model, logits: bool = False) -> float:
    outputs = model(inputs()["x"])
    outputs = outputs["main"] if isinstance(outputs, dict) else outputs[-1] if isinstance(outputs, list) else outputs
    return float(tf.reduce_mean(keras.losses.sparse_categorical_crossentropy(NUMBERS, outputs, from_logits=logits)))


@pytest.mark.parametrize("activation", ["softmax", None])
def test_cross_entropy_sees_by_itself_whether_scores_are_logits(activation: str | None) -> None:
    model = classifier(activation)
    found = taught(model, NUMBERS, CLASSIFICATION)
    assert found.source_text == "labels (cross-entropy)"
    assert value(found, model) == pytest.approx(own_cross_entropy(model, activation is None), rel=1e-4)


def test_the_output_that_classifies_is_the_one_with_most_values() -> None:
    model = two_outputs(by_name=False)
    assert value(taught(model, NUMBERS, CLASSIFICATION), model) == pytest.approx(own_cross_entropy(model), rel=1e-4)


def test_class_numbers_beyond_the_scores_are_a_mistake_of_the_recipe() -> None:
    with pytest.raises(RecipeError, match="0 to 3; the model scores 3 classes"):
        taught(classifier(), np.arange(COUNT) % 4, CLASSIFICATION)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize(
    "loss",
    [
        "sparse_categorical_crossentropy",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        keras.losses.CategoricalCrossentropy(label_smoothing=0.1),
        "mse",
        keras.losses.mean_squared_error,
        {"classes": keras.losses.BinaryCrossentropy()},
        ["categorical_crossentropy"],
    ],
    ids=["name", "sparse", "smoothed", "short", "function", "by-output", "list"],
)
def test_the_compiled_loss_is_the_one_keras_computes(loss: Any, suffix: str, tmp_path: Path) -> None:
    model = classifier(None if getattr(loss, "get_config", dict)().get("from_logits") else "softmax")
    source = saved(model, loss, tmp_path / f"model{suffix}")
    found = taught(keras_io.load(source), NUMBERS, CLASSIFICATION, source)
    assert "as compiled" in found.source_text
    sparse = "parse" in str(getattr(loss, "name", loss))
    expected = model.evaluate(inputs()["x"], NUMBERS if sparse else np.eye(CLASSES)[NUMBERS], COUNT, verbose=0)
    assert value(found, model) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("by_name", [True, False])
def test_the_compiled_loss_of_the_output_that_classifies_is_taken(by_name: bool, tmp_path: Path) -> None:
    model = two_outputs(by_name)
    losses = {"side": "mse", "main": "sparse_categorical_crossentropy"} if by_name else ["mse", None]
    source = saved(model, losses, tmp_path / "model.keras")
    found = taught(model, NUMBERS, CLASSIFICATION, source)
    expected = "labels (SparseCategoricalCrossentropy, as compiled)" if by_name else "labels (cross-entropy)"
    assert found.source_text == expected
    assert value(found, model) == pytest.approx(own_cross_entropy(model), rel=1e-4)


def test_generic_data_with_y_learns_by_the_compiled_loss(tmp_path: Path) -> None:
    x = keras.Input((4,), name="x")
    model = keras.Model(x, L.Dense(1, name="value")(x))
    source = saved(model, "mae", tmp_path / "model.keras")
    y = inputs()["x"].sum(axis=1)
    found = taught(model, y, GENERIC, source)
    assert found.source_text == "labels (MeanAbsoluteError, as compiled)"
    assert value(found, model) == pytest.approx(float(model.evaluate(inputs()["x"], y, COUNT, verbose=0)), rel=1e-4)


WIDE = np.zeros((COUNT, 5), np.float32)


@pytest.mark.parametrize(
    ("loss", "truth", "reason"),
    [
        (None, WIDE, "the model was saved without a compiled loss"),
        (
            "mse",
            WIDE,
            r"shape \(5,\) per sample, 0.0 to 0.0, do not fit its compiled MeanSquaredError of output 'classes'",
        ),
        ("mse", NUMBERS, r"labels of shape \(\) per sample, 0 to 2, do not fit"),
        (keras.losses.Huber(0.5), np.eye(CLASSES)[NUMBERS], "Keras did not save the delta of its compiled loss Huber"),
        ("sparse_categorical_crossentropy", np.eye(CLASSES)[NUMBERS], "do not fit its compiled SparseCategorical"),
    ],
)
def test_where_no_compiled_loss_fits_the_text_says_why(loss: Any, truth: Array, reason: str, tmp_path: Path) -> None:
    source = saved(classifier(), loss, tmp_path / "model.keras")
    found = taught(classifier(), truth, GENERIC, source)
    assert found.loss is None
    assert found.labels is None
    assert re.search(reason, found.source_text)


def test_two_outputs_that_fit_are_one_too_many(tmp_path: Path) -> None:
    x = keras.Input((4,), name="x")
    model = keras.Model(x, {"a": L.Dense(2, name="a")(x), "b": L.Dense(2, name="b")(x)})
    source = saved(model, "mse", tmp_path / "model.keras")
    found = taught(model, WIDE[:, :2], GENERIC, source)
    assert found.loss is None
    assert found.source_text == "the labels fit 2 outputs: a, b"


def described(loss: Any, tmp_path: Path) -> Path:
    """Write a model whose file describes its compiled loss with these very words."""
    source = saved(classifier(), "mse", tmp_path / "clean.keras")
    changed = tmp_path / "changed.keras"
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(changed, "w") as target:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "config.json":
                config = json.loads(content)
                config["compile_config"]["loss"] = loss
                content = json.dumps(config).encode()
            target.writestr(name, content)
    return changed


@pytest.mark.parametrize(
    "loss",
    [
        {"module": "my.losses", "class_name": "Mine", "config": {}, "registered_name": "Mine"},
        {"module": "my.losses", "class_name": "MeanSquaredError", "config": {}, "registered_name": None},
        {"module": "keras.losses", "class_name": "MeanSquaredError", "config": {}, "registered_name": "my>Mine"},
        {"module": "builtins", "class_name": "function", "config": "mine", "registered_name": "function"},
        {"module": "builtins", "class_name": "__lambda__", "config": {"code": "4wA="}, "registered_name": None},
        {"module": "keras.losses", "class_name": "Tversky", "config": {"alpha": {"class_name": "x"}}},
        "<lambda>",
        7,
    ],
    ids=str,
)
def test_nothing_but_keras_own_losses_is_built_from_a_file(loss: Any, tmp_path: Path) -> None:
    found = taught(classifier(), np.eye(CLASSES)[NUMBERS], GENERIC, described(loss, tmp_path))
    assert found.loss is None
    assert "its compiled loss" in found.source_text


def test_a_damaged_file_is_an_error_of_the_recipe(tmp_path: Path) -> None:
    for suffix in (".keras", ".h5"):
        damaged = tmp_path / f"model{suffix}"
        damaged.write_bytes(b"no model")
        with pytest.raises(RecipeError, match="not a readable model file"):
            compiled_loss(damaged)


def test_a_file_without_compile_state_has_no_loss(tmp_path: Path) -> None:
    keras_io.save(classifier(), tmp_path / "model.keras")
    assert compiled_loss(tmp_path / "model.keras") is None


def test_without_labels_distillation_is_alone() -> None:
    for found in (taught(classifier(), None, CLASSIFICATION), taught(classifier(), NUMBERS, GENERIC, labelled=False)):
        assert found.loss is None
        assert found.source_text == "the recipe names no labelled training samples"


@pytest.mark.parametrize("decoder", ["final", "lists"])
def test_detections_after_nms_say_that_they_cannot_teach(decoder: str) -> None:
    truth = [Boxes(np.zeros((1, 4), np.float32), np.zeros(1, np.int64))] * COUNT
    found = taught(classifier(), truth, {"kind": "detection", "decoder": decoder})
    assert found.loss is None
    assert found.source_text == (
        f"the network of decoder {decoder!r} suppresses boxes itself, and no gradient passes that"
    )


def test_outputs_that_are_not_what_the_recipe_says_are_an_error() -> None:
    truth = [Boxes(np.zeros((1, 4), np.float32), np.zeros(1, np.int64))] * COUNT
    task = {"kind": "detection", "boxes_output": "boxes", "scores_output": "scores"}
    with pytest.raises(RecipeError, match="no output 'boxes'"):
        taught(classifier(), truth, task)


ADAPTER = """
import numpy as np
import tensorflow as tf

def encode_labels(boxes, classes, input_shape):
    return {"count": np.float32(len(boxes)), "wide": np.float32(input_shape[0])}

def loss(outputs, labels):
    return tf.reduce_sum(labels["count"]) if "count" in labels else tf.reduce_sum(tf.cast(labels["y"], tf.float32))
"""


def test_the_adapter_wins_and_sees_boxes_without_padding(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter.py"
    adapter.write_text(ADAPTER)
    truth = [Boxes(np.ones((n % 3, 4), np.float32), np.zeros(n % 3, np.int64)) for n in range(COUNT)]
    found = taught(classifier(), truth, {"kind": "detection", "decoder": "final"}, adapter=adapter)
    assert found.source_text == "labels (adapter.py)"
    assert found.truth is not None
    assert found.truth["boxes"].shape == (COUNT, 2, 4)
    np.testing.assert_array_equal(found.encode(found.truth)["count"], [n % 3 for n in range(COUNT)])
    assert value(found, classifier()) == COUNT
    plain = taught(classifier(), NUMBERS, CLASSIFICATION, adapter=adapter)
    assert value(plain, classifier()) == NUMBERS.sum()
