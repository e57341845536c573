"""What a stranger's model file is allowed to hold, and what is said of the rest. No TensorFlow here."""

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from small_saved_model import FLOAT, saved_model

from edgekit.errors import RecipeError, UnsupportedError
from edgekit.source import inspect
from edgekit.source.keras_config import STANDARD_LAYERS

SAMPLES = Path(__file__).parents[1] / "sample_models"
FASHION = SAMPLES / "fashion_classifier" / "model.keras"
NAN = np.array([1.0, np.nan], np.float32)

Config = dict[str, Any]


def edited_keras(path: Path, edit: Callable[[Config], None] = lambda _: None, weights: bytes | None = None) -> Path:
    """Write the fashion classifier again with its configuration or its weights changed by hand."""
    with zipfile.ZipFile(FASHION) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(entries["config.json"])
    edit(config)
    entries["config.json"] = json.dumps(config).encode()
    entries["model.weights.h5"] = entries["model.weights.h5"] if weights is None else weights
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def edited_weights(edit: Callable[[h5py.File], None]) -> bytes:
    with zipfile.ZipFile(FASHION) as archive:
        buffer = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(buffer, "r+") as file:
        edit(file)
    return buffer.getvalue()


def layer_of(config: Config, class_name: str) -> Config:
    layers: list[Config] = config["config"]["layers"]
    return next(layer for layer in layers if layer["class_name"] == class_name)


@pytest.mark.parametrize(
    ("name", "parameters"),  # as model.count_params() says
    [("digits_detector", 1_164_782), ("fashion_classifier", 105_562), ("text_encoder", 284_231)],
)
def test_the_samples_are_clean(name: str, parameters: int) -> None:
    info = inspect(SAMPLES / name / "model.keras")
    assert (info.format, info.parameters, info.warnings) == ("keras", parameters, ())
    assert info.size_bytes == info.path.stat().st_size
    assert info.layers[0] == "InputLayer"


def test_tensorflow_is_not_loaded() -> None:
    code = (
        "import sys; from pathlib import Path; from edgekit.source import inspect; "
        f"inspect(Path({str(FASHION)!r})); sys.exit(bool({{'tensorflow', 'keras'}} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- what is no model ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_archive(tmp_path: Path, share: float) -> None:
    whole = FASHION.read_bytes()
    path = tmp_path / "model.keras"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(RecipeError, match=r"model\.keras is (not a readable \.keras file|an empty file)") as caught:
        inspect(path)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.onnx", "model.tflite"])
@pytest.mark.parametrize("content", [b"", b"hello, I am text\n" * 100, b"version https://git-lfs.github.com/spec/v1\n"])
def test_another_file_under_a_model_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecipeError, match=name):
        inspect(tmp_path / name)


@pytest.mark.parametrize("name", ["model.pt", "model.pkl", "model.bin", "model"])
def test_another_kind_of_file_is_never_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to("/proc/self/mem")  # reading it would raise OSError
    with pytest.raises(RecipeError, match="no kind of model") as caught:
        inspect(tmp_path / name)
    assert caught.value.hint


def test_a_missing_file_and_a_misnamed_one(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="There is no model") as caught:
        inspect(tmp_path / "none.keras")
    assert ".onnx" in caught.value.hint
    (tmp_path / "model.h5").write_bytes(FASHION.read_bytes())
    with pytest.raises(RecipeError, match="zip archive"):
        inspect(tmp_path / "model.h5")


def test_random_damage_ends_in_an_expected_error(tmp_path: Path) -> None:
    """Bytes overwritten anywhere: either nobody notices, or it is one of edgekit's own errors."""
    random, whole, path = np.random.default_rng(0), FASHION.read_bytes(), tmp_path / "model.keras"
    refused = 0
    for _ in range(60):
        damaged = bytearray(whole)
        at = int(random.integers(len(whole) - 64))
        damaged[at : at + 64] = random.bytes(64)
        path.write_bytes(damaged)
        try:
            inspect(path)
        except (RecipeError, UnsupportedError):
            refused += 1
    assert refused >= 55, "the archive's checksums see almost all of it"


# -- hostile archives ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../outside", "/etc/cron.d/x", "a/../../b", "..\\outside", "C:\\x"])
def test_a_member_that_leaves_the_archive(tmp_path: Path, name: str) -> None:
    path = edited_keras(tmp_path / "model.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "x")
    with pytest.raises(UnsupportedError, match="points out of the archive"):
        inspect(path)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_two_configurations_in_one_archive(tmp_path: Path) -> None:
    path = edited_keras(tmp_path / "model.keras")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(UnsupportedError, match="two members"):
        inspect(path)


@pytest.mark.parametrize("missing", ["config.json", "model.weights.h5"])
def test_a_zip_that_is_no_model(tmp_path: Path, missing: str) -> None:
    with zipfile.ZipFile(FASHION) as whole, zipfile.ZipFile(tmp_path / "model.keras", "w") as part:
        for name in set(whole.namelist()) - {missing}:
            part.writestr(name, whole.read(name))
    with pytest.raises(RecipeError, match=f"holds no {missing}"):
        inspect(tmp_path / "model.keras")


def test_an_archive_that_unpacks_to_more_than_it_may(tmp_path: Path) -> None:
    path = edited_keras(tmp_path / "model.keras")
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")  # the first entry of the central directory; its size stands 24 bytes in
    content[at + 24 : at + 28] = (0xFFFFFFF0).to_bytes(4, "little")
    at = content.index(b"PK\x01\x02", at + 4)
    content[at + 24 : at + 28] = (0xFFFFFFF0).to_bytes(4, "little")
    at = content.index(b"PK\x01\x02", at + 4)
    content[at + 24 : at + 28] = (0xFFFFFFF0).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(UnsupportedError, match=r"unpacks to 12\.9 GB"):
        inspect(path)


@pytest.mark.parametrize("config", [b"{", b"[1, 2]", b'{"config": {}}', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_configuration(tmp_path: Path, config: bytes) -> None:
    with zipfile.ZipFile(FASHION) as whole, zipfile.ZipFile(tmp_path / "model.keras", "w") as part:
        part.writestr("config.json", config)
        part.writestr("model.weights.h5", whole.read("model.weights.h5"))
    with pytest.raises(RecipeError, match="configuration"):
        inspect(tmp_path / "model.keras")


# -- code and custom objects --------------------------------------------------------------------------------------


def test_a_lambda_layer(tmp_path: Path) -> None:
    def edit(config: Config) -> None:
        layer_of(config, "ReLU").update(class_name="Lambda", name="my_lambda")

    with pytest.raises(UnsupportedError, match="Lambda layer 'my_lambda'") as caught:
        inspect(edited_keras(tmp_path / "model.keras", edit))
    assert "keras.ops" in caught.value.hint


def test_a_lambda_hidden_in_another_layer(tmp_path: Path) -> None:
    def edit(config: Config) -> None:
        layer = layer_of(config, "Conv2D")
        layer["name"] = layer["config"]["name"] = "stem"
        layer["config"]["activation"] = {"class_name": "__lambda__", "config": {"value": "4wEAAA=="}}

    with pytest.raises(UnsupportedError, match="Lambda layer 'stem'"):
        inspect(edited_keras(tmp_path / "model.keras", edit))


@pytest.mark.parametrize("registered", [None, "Custom>Mine"])
@pytest.mark.parametrize("module", ["my_package.layers", "keras_evil", None])
def test_a_custom_layer(tmp_path: Path, module: str | None, registered: str | None) -> None:
    def edit(config: Config) -> None:
        layer_of(config, "ReLU").update(class_name="Mine", name="odd", module=module, registered_name=registered)

    with pytest.raises(UnsupportedError, match="'odd' is of the custom class Mine"):
        inspect(edited_keras(tmp_path / "model.keras", edit))


def test_a_custom_function(tmp_path: Path) -> None:
    def edit(config: Config) -> None:
        function = {"module": "builtins", "class_name": "function", "config": "mish2", "registered_name": "function"}
        layer_of(config, "Conv2D")["config"]["activation"] = function

    with pytest.raises(UnsupportedError, match="your own function 'mish2'"):
        inspect(edited_keras(tmp_path / "model.keras", edit))


def test_a_layer_that_runs_another_library(tmp_path: Path) -> None:
    def edit(config: Config) -> None:
        layer_of(config, "ReLU")["class_name"] = "TorchModuleWrapper"

    with pytest.raises(UnsupportedError, match="TorchModuleWrapper"):
        inspect(edited_keras(tmp_path / "model.keras", edit))


# -- weights ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(tmp_path: Path, value: float) -> None:
    def edit(file: h5py.File) -> None:
        file["layers/batch_normalization/vars/1"][-1] = value

    with pytest.raises(UnsupportedError, match="batch_normalization/vars/1"):
        inspect(edited_keras(tmp_path / "model.keras", weights=edited_weights(edit)))


def test_weights_that_lie_elsewhere(tmp_path: Path) -> None:
    def link(file: h5py.File) -> None:
        file["layers/linked"] = h5py.ExternalLink("/etc/passwd", "/x")

    def external(file: h5py.File) -> None:
        file.create_dataset("layers/far", (4,), "f4", external=[("/etc/hostname", 0, 16)])

    for edit in (link, external):
        with pytest.raises(UnsupportedError, match=r"link|another file"):
            inspect(edited_keras(tmp_path / "model.keras", weights=edited_weights(edit)))


def test_weights_that_claim_to_be_huge(tmp_path: Path) -> None:
    def edit(file: h5py.File) -> None:  # takes no space in the file: nothing of it is written
        file.create_dataset("layers/huge", (1 << 40,), "f4", chunks=(1 << 20,))

    with pytest.raises(UnsupportedError, match="more than 8 GB"):
        inspect(edited_keras(tmp_path / "model.keras", weights=edited_weights(edit)))


def test_weights_that_contain_themselves(tmp_path: Path) -> None:
    def edit(file: h5py.File) -> None:
        file["layers/again"] = file["layers"]

    with pytest.raises(RecipeError, match="damaged weights"):
        inspect(edited_keras(tmp_path / "model.keras", weights=edited_weights(edit)))


def test_optimizer_state_is_mentioned_and_not_counted(tmp_path: Path) -> None:
    weights = edited_weights(lambda file: file.create_dataset("optimizer/vars/0", data=NAN))
    info = inspect(edited_keras(tmp_path / "model.keras", weights=weights))
    assert info.parameters == 105_562
    assert "optimizer state" in info.warnings[0]


def test_resizing_with_batch_normalization_is_mentioned(tmp_path: Path) -> None:
    def edit(config: Config) -> None:
        layer_of(config, "ReLU")["class_name"] = "CenterCrop"

    info = inspect(edited_keras(tmp_path / "model.keras", edit))
    assert "training=False" in info.warnings[0]


# -- .h5 ----------------------------------------------------------------------------------------------------------


def test_an_h5_file_of_weights_only(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("dense/kernel", data=NAN)
    with pytest.raises(RecipeError, match="weights only") as caught:
        inspect(tmp_path / "m.h5")
    assert "load_weights" in caught.value.hint


@pytest.mark.slow
def test_the_standard_layers_are_those_of_this_keras() -> None:
    import keras

    public = {name for name in dir(keras.layers) if isinstance(getattr(keras.layers, name), type)}
    refused = {"Lambda", "TorchModuleWrapper", "FlaxLayer", "JaxLayer", "TFSMLayer"}
    assert public - refused - {"InputSpec", "Layer"} == STANDARD_LAYERS


# -- SavedModel ---------------------------------------------------------------------------------------------------


def test_a_saved_model_folder_must_be_whole(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="without saved_model"):
        inspect(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(RecipeError, match="is empty"):
        inspect(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    with pytest.raises(RecipeError, match="incomplete"):
        inspect(tmp_path)
    (tmp_path / "variables").mkdir()
    for name in ("variables.index", "variables.data-00000-of-00001"):
        (tmp_path / "variables" / name).write_bytes(b"xy")
    with pytest.raises(RecipeError, match="it is no SavedModel"):
        inspect(tmp_path)
    info = inspect(saved_model(tmp_path / "whole", {"serving_default": {"x": (FLOAT, [-1, 8])}}))
    assert (info.format, info.parameters) == ("saved_model", None)
    assert "quantized and converted only" in info.warnings[0]
