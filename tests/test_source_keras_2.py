"""Files of Keras 2: what holds code is refused, old spellings are read, a .keras names the way out."""

import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from edgekit.errors import UnsupportedError
from edgekit.source import inspect
from edgekit.source.keras_2 import modern

FASHION = Path(__file__).parents[1] / "sample_models" / "fashion_classifier" / "model.keras"

Config = dict[str, Any]


def keras_2_file(path: Path, layers: list[Config], **attributes: str) -> Path:
    config = {"class_name": "Functional", "config": {"name": "model", "layers": layers}}
    with h5py.File(path, "w") as file:
        file.attrs.update({"model_config": json.dumps(config), **attributes})
        file.create_dataset("model_weights/dense/dense/kernel:0", data=np.ones((3, 5), np.float32))
        file.create_dataset("optimizer_weights/iteration:0", data=0)
    return path


def keras_2_layer(class_name: str, **config: object) -> Config:
    return {"class_name": class_name, "name": "one", "config": {"name": "one", **config}}


def test_a_keras_2_file(tmp_path: Path) -> None:
    relu = {"class_name": "GlorotUniform", "config": {"seed": None}}
    info = inspect(keras_2_file(tmp_path / "m.h5", [keras_2_layer("Dense", kernel_initializer=relu)]))
    assert (info.format, info.parameters, info.layers) == ("h5", 15, ("Dense",))
    assert "optimizer state" in info.warnings[0]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (keras_2_layer("Lambda"), "Lambda layer 'one'"),
        (keras_2_layer("Swish2"), "'one' is of the custom class Swish2"),
        (keras_2_layer("Addons>GELU"), "custom class Addons>GELU"),
        (keras_2_layer("TFOpLambda"), "a Keras 2 operation"),
        (keras_2_layer("Bidirectional", layer={"class_name": "MyCell", "config": {}}), "custom class MyCell"),
    ],
)
def test_a_keras_2_file_with_code(tmp_path: Path, layer: Config, message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        inspect(keras_2_file(tmp_path / "m.h5", [layer]))


def test_old_spellings_of_keras_2_that_say_nothing_go() -> None:
    def layer(kind: str, **config: object) -> Config:
        return {"class_name": kind, "config": config}

    normal = {"class_name": "VarianceScaling", "config": {"distribution": "normal", "dtype": "float32", "scale": 2.0}}
    known = {"class_name": "VarianceScaling", "config": {"distribution": "truncated_normal", "scale": 2.0}}
    pairs = [
        (layer("DepthwiseConv2D", groups=1, name="d"), layer("DepthwiseConv2D", name="d")),
        (layer("DepthwiseConv2D", groups=3), layer("DepthwiseConv2D", groups=3)),
        (layer("BatchNormalization", axis=[3], virtual_batch_size=None), layer("BatchNormalization", axis=3)),
        (layer("LeakyReLU", alpha=0.1), layer("LeakyReLU", negative_slope=0.1)),
        (layer("ThresholdedReLU", theta=0.5), layer("ReLU", threshold=0.5)),
        (layer("Dense", kernel_initializer=normal), layer("Dense", kernel_initializer=known)),
        (layer("Dense", dtype=layer("Policy", name="float32")), layer("Dense", dtype="float32")),
        (
            layer("Dense", bias_initializer=layer("MyOwn", magic=1)),
            layer("Dense", bias_initializer=layer("Zeros")),
        ),
    ]
    for old, new in pairs:
        assert modern({"layers": [old]}) == {"layers": [new]}
    with zipfile.ZipFile(FASHION) as archive:
        config = json.loads(archive.read("config.json"))
    assert modern(config) == config


def test_calls_of_a_nested_sequential_are_counted_from_0() -> None:
    def graph(first: int) -> Config:
        layers = [
            {"class_name": "Sequential", "name": "s", "config": {}, "inbound_nodes": [[["x", 0, 0, {}]]]},
            {"class_name": "Dense", "name": "d", "config": {}, "inbound_nodes": [[["s", first, 0, {}]]]},
        ]
        return {"class_name": "Functional", "config": {"layers": layers, "output_layers": [["s", first, 0]]}}

    assert modern(graph(1)) == graph(0)
    assert modern(graph(0)) == graph(0)


def test_a_keras_file_of_keras_2_names_the_way_out(tmp_path: Path) -> None:
    with zipfile.ZipFile(FASHION) as old, zipfile.ZipFile(tmp_path / "m.keras", "w") as new:
        for name in old.namelist():
            new.writestr(name, b'{"keras_version": "2.15.0"}' if name == "metadata.json" else old.read(name))
    with pytest.raises(UnsupportedError, match=r"of Keras 2\.15\.0") as caught:
        inspect(tmp_path / "m.keras")
    assert ".save('model.h5')" in caught.value.hint
