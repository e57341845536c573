"""Models are loaded as data, and saved so that equal models are equal files."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"

import h5py
import keras
import numpy as np
import pytest

from edgekit import keras_io
from edgekit.errors import RecipeError, UnsupportedError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]

SAMPLES = Path(__file__).parents[1] / "sample_models"


def network() -> keras.Model:
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(image)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.Conv2DTranspose(4, 2, name="up")(x)
    return keras.Model(image, keras.layers.Dense(2, name="scores")(keras.layers.Flatten(name="flat")(x)), name="net")


def test_a_saved_model_computes_what_it_did(tmp_path: Path) -> None:
    model = network()
    keras_io.save(model, tmp_path / "new" / "model.keras")
    loaded = keras_io.load(tmp_path / "new" / "model.keras")
    x = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    # The same weights through the same kernels: no rounding in between.
    np.testing.assert_array_equal(loaded(x, training=False), model(x, training=False))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["model.keras"]


def test_training_leaves_no_trace_in_the_file(tmp_path: Path) -> None:
    model = network()
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(np.ones((4, 8, 8, 3), np.float32), np.ones((4, 2), np.float32), verbose=0)
    keras_io.save(model, tmp_path / "compiled.keras")
    never_compiled = network()
    never_compiled.set_weights(model.get_weights())
    keras_io.save(never_compiled, tmp_path / "never.keras")
    assert (tmp_path / "compiled.keras").read_bytes() == (tmp_path / "never.keras").read_bytes()
    assert not keras_io.load(tmp_path / "compiled.keras").compiled


def test_loading_and_saving_again_changes_nothing(tmp_path: Path) -> None:
    keras_io.save(keras_io.load(SAMPLES / "text_encoder" / "model.keras"), tmp_path / "first.keras")
    keras_io.save(keras_io.load(tmp_path / "first.keras"), tmp_path / "second.keras")
    assert (tmp_path / "first.keras").read_bytes() == (tmp_path / "second.keras").read_bytes()


_SHARED = """
import sys
from pathlib import Path
import keras
from edgekit import keras_io
keras_io.deterministic(5)
padding = [bytes(1000) for _ in range(int(sys.argv[2]))]  # other addresses for the shared objects
shared = keras.layers.Dense(4, activation=keras.layers.ReLU())
policy = keras.dtype_policies.DTypePolicy("float32")
x = keras.Input((4,))
y = keras.layers.Dense(4, dtype=policy)(keras.layers.Dense(4, dtype=policy)(shared(shared(x))))
model = keras.Model(x, y)
model.compile("adam", "mse")
model.fit(keras.random.normal((64, 4), seed=1), keras.random.normal((64, 4), seed=2), epochs=2, verbose=0)
keras_io.save(model, Path(sys.argv[1]))
"""


def test_two_processes_train_and_write_equal_bytes(tmp_path: Path) -> None:
    for name, padding in (("a", "0"), ("b", "5000")):
        subprocess.run([sys.executable, "-c", _SHARED, str(tmp_path / f"{name}.keras"), padding], check=True)
    assert (tmp_path / "a.keras").read_bytes() == (tmp_path / "b.keras").read_bytes()
    config = zipfile.ZipFile(tmp_path / "a.keras").read("config.json").decode()
    assert '"shared_object_id": 1' in config, "the model of this test must hold a shared object"


def test_threads_are_fixed_before_the_first_op_or_not_at_all() -> None:
    code = "import tensorflow as tf\nfrom edgekit import keras_io\ntf.zeros(1) + 1\nkeras_io.deterministic(0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "RuntimeError" in done.stderr


def as_keras_2(path: Path, additions: dict[str, dict[str, object]]) -> None:
    """Write into an .h5 what Keras 2 wrote: keys of layers that Keras 3 does not know."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            layer["config"].update(additions.get(layer["class_name"], {}))
        file.attrs["model_config"] = json.dumps(config)


def test_a_keras_2_file_becomes_plain_keras_3_layers(tmp_path: Path) -> None:
    model, path = network(), tmp_path / "model.h5"
    model.save(path)
    as_keras_2(path, {"DepthwiseConv2D": {"groups": 1}, "Conv2DTranspose": {"groups": 1}})
    with pytest.raises((TypeError, ValueError), match="groups"):  # what the new spelling is for
        keras.saving.load_model(path, compile=False)
    loaded = keras_io.load(path)
    assert type(loaded.get_layer("depthwise")) is keras.layers.DepthwiseConv2D
    assert type(loaded.get_layer("up")) is keras.layers.Conv2DTranspose
    x = np.random.default_rng(0).random((1, 8, 8, 3), np.float32)
    # The same weights through the same kernels.
    np.testing.assert_array_equal(loaded(x, training=False), model(x, training=False))


def test_keras_2_spellings_compute_the_same(tmp_path: Path) -> None:
    image = keras.Input((6, 6, 3), name="image")
    x = keras.layers.Conv2D(4, 3, name="conv")(image)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.LeakyReLU(negative_slope=0.25, name="leaky")(x)
    model = keras.Model(image, keras.layers.Dense(2, name="scores")(keras.layers.Flatten(name="flat")(x)))
    path = tmp_path / "m.h5"
    model.save(path)
    old = {"class_name": "VarianceScaling", "config": {"scale": 1.0, "distribution": "normal", "dtype": "float32"}}
    as_keras_2(
        path,
        {
            "BatchNormalization": {"axis": [3], "virtual_batch_size": None},
            "LeakyReLU": {"alpha": 0.25},
            "Conv2D": {"kernel_initializer": old},
            "Dense": {"bias_initializer": {"class_name": "Bygone", "config": {}}},
        },
    )
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype(np.float32)
    np.testing.assert_array_equal(keras_io.load(path)(x).numpy(), model(x).numpy())


def test_a_keras_2_recurrent_layer_loads(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(4)]).save(path)
    as_keras_2(path, {"LSTM": {"time_major": False}})
    assert keras_io.load(path).output_shape == (None, 4)


def test_a_keras_2_value_that_means_something_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    network().save(path)
    as_keras_2(path, {"DepthwiseConv2D": {"groups": 3}})
    with pytest.raises(UnsupportedError, match="groups"):
        keras_io.load(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_lambda_code_in_a_file_is_not_run(tmp_path: Path, suffix: str) -> None:
    x = keras.Input((4,))
    path = tmp_path / f"model{suffix}"
    keras.Model(x, keras.layers.Lambda(lambda value: value * 2)(x)).save(path)
    with pytest.raises(UnsupportedError, match=r"cannot be loaded: .*Lambda"):
        keras_io.load(path)


def test_an_unknown_class_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    network().save(tmp_path / "plain.keras")
    with zipfile.ZipFile(tmp_path / "plain.keras") as plain, zipfile.ZipFile(path, "w") as edited:
        for name in plain.namelist():
            content = plain.read(name)
            if name == "config.json":
                content = content.replace(b'"keras.layers", "class_name": "Dense"', b'"mine", "class_name": "Mine"')
            edited.writestr(name, content)
    with pytest.raises(UnsupportedError, match="Mine"):
        keras_io.load(path)


def test_a_broken_and_a_missing_file(tmp_path: Path) -> None:
    whole = (SAMPLES / "text_encoder" / "model.keras").read_bytes()
    (tmp_path / "model.keras").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnsupportedError, match="cannot be loaded"):
        keras_io.load(tmp_path / "model.keras")
    with pytest.raises(RecipeError, match="There is no model"):
        keras_io.load(tmp_path / "none.keras")
