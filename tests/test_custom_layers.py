"""A Keras model with classes of the user's own: refused by name, or made of the file that the user names."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from project import FASHION, edgekit, fashion, report_of

from edgekit import named_code, source
from edgekit.artifact import digest
from edgekit.errors import RecipeError, UnsupportedError

SWIRL = """
from pathlib import Path
import keras
Path(__file__).with_name("executed").touch()

class Swirl(keras.layers.Layer):
    def call(self, x):
        return keras.ops.relu(x)

def bend(x):
    return keras.ops.relu(x)
"""
PLAIN: dict[str, Any] = {"class_name": "Swirl", "module": "their.code", "registered_name": "Swirl"}
REGISTERED = PLAIN | {"registered_name": "their>Swirl"}
LAMBDA: dict[str, Any] = {"class_name": "Lambda", "module": "keras.layers", "registered_name": None}


def swirled(path: Path, kind: dict[str, Any] = PLAIN) -> Path:
    """Write the fashion classifier with a layer of its own in place of each ReLU, which computes the same."""
    with zipfile.ZipFile(FASHION / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    for layer in config["config"]["layers"]:
        if layer["class_name"] == "ReLU":
            layer.update(kind, config={"name": layer["config"]["name"]})
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    path = tmp_path / "my_layers.py"
    path.write_text(SWIRL)
    return path


def was_run(layers: Path) -> bool:
    return layers.with_name("executed").exists()


@pytest.mark.parametrize("kind", [PLAIN, REGISTERED], ids=["plain", "registered"])
def test_every_class_is_named_with_the_option_that_gives_it(tmp_path: Path, layers: Path, kind: dict[str, Any]) -> None:
    path = swirled(tmp_path / "model.keras", kind)
    with pytest.raises(UnsupportedError, match="of the custom class Swirl") as caught:
        source.inspect(path)
    assert "--custom my_layers.py" in caught.value.hint
    assert "Swirl" in source.inspect(path, custom=layers).layers
    assert not was_run(layers), "looking at a model runs nothing"


def test_a_file_without_the_class(tmp_path: Path, layers: Path) -> None:
    layers.write_text("class Swirls: ...\n")
    with pytest.raises(UnsupportedError, match="Swirl, which the custom file does not define") as caught:
        source.inspect(swirled(tmp_path / "model.keras"), custom=layers)
    assert "Swirls" in caught.value.hint


@pytest.mark.parametrize("text", ["class Swirl(:\n", "\0", "x" * 10 + "(" * 5000], ids=["syntax", "nul", "deep"])
def test_a_file_that_is_no_python(tmp_path: Path, text: str) -> None:
    (tmp_path / "my_layers.py").write_text(text)
    with pytest.raises(RecipeError, match=r"my_layers\.py"):
        named_code.names(tmp_path / "my_layers.py")
    with pytest.raises(RecipeError, match=r"none\.py"):
        named_code.names(tmp_path / "none.py")


def test_a_lambda_stays_refused(tmp_path: Path, layers: Path) -> None:
    with pytest.raises(UnsupportedError, match="Lambda layer"):
        source.inspect(swirled(tmp_path / "model.keras", LAMBDA), custom=layers)
    assert not was_run(layers)


def test_custom_is_for_keras_files(tmp_path: Path, layers: Path) -> None:
    from small_onnx import write

    with pytest.raises(RecipeError, match="no Keras model"):
        source.inspect(write(tmp_path / "m.onnx", {"y": (1, 10)}), custom=layers)


def test_inspect_counts_no_layer_that_it_does_not_know(tmp_path: Path, layers: Path) -> None:
    path = swirled(tmp_path / "model.keras")
    refused = edgekit("inspect", path)
    assert refused.code == 4
    assert "--custom my_layers.py" in refused.err
    done = edgekit("inspect", path, "--custom", layers, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["macs"], found["macs_unknown_for"]) == (None, ["Swirl"])
    assert found["ops"]["Swirl"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", [REGISTERED], ids=["registered"])
def test_a_build_runs_the_named_file_and_records_it(tmp_path: Path, layers: Path, kind: dict[str, Any]) -> None:
    recipe = fashion(tmp_path / "r", "[prune]\nenabled = false\n[quantize]\nsearch = false\n")
    swirled(recipe / "model.keras", kind)
    assert edgekit("build", "-c", recipe, "--dry-run").code == 4
    (recipe / "edgekit.toml").write_text(
        (recipe / "edgekit.toml").read_text().replace("[model]", f'[model]\ncustom = "{layers}"')
    )
    assert edgekit("build", "-c", recipe, "--dry-run").code == 0
    assert not was_run(layers), "a plan runs nothing"
    done = edgekit("build", "-c", recipe, "-o", recipe / "out")
    assert done.code == 0, done.err
    assert was_run(layers)
    assert report_of(recipe / "out")["source"]["custom_sha256"] == digest(layers)
    record = next((recipe / "out/artifacts").rglob("*.record.json"))
    assert json.loads(record.read_text())["source"]["custom_sha256"] == digest(layers)
    layers.write_text(SWIRL.replace("relu(x)", "tanh(x)"))
    again = edgekit("build", "-c", recipe, "-o", recipe / "out", "--dry-run")
    assert again.code == 0, again.err
