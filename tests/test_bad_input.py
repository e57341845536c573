"""What a broken model, sample, recipe or target ends in: an exit code and a sentence that names the thing.

Everything here is found before any work starts, without TensorFlow.
"""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from project import DETECTOR, Done, edgekit, edit, fashion

IMAGES = 6


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return fashion(tmp_path / "fashion")


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    """The detector's recipe with a few of its images."""
    folder = tmp_path / "detector"
    data = folder / "data"
    data.mkdir(parents=True)
    shutil.copyfile(DETECTOR / "model.keras", folder / "model.keras")
    text = (DETECTOR / "edgekit.toml").read_text()
    dropped = ("train", "adapter")
    (folder / "edgekit.toml").write_text("\n".join(line for line in text.splitlines() if not line.startswith(dropped)))
    document = json.loads((DETECTOR / "data/test.json").read_text())
    document["images"] = sorted(document["images"], key=lambda image: image["file_name"])[:IMAGES]
    kept = {image["id"] for image in document["images"]}
    document["annotations"] = [item for item in document["annotations"] if item["image_id"] in kept]
    (data / "test.json").write_text(json.dumps(document))
    names = {"test": [image["file_name"] for image in document["images"]]}
    names["calibration"] = sorted(path.name for path in (DETECTOR / "data/calibration").iterdir())[:IMAGES]
    for part, files in names.items():
        (data / part).mkdir()
        for name in files:
            shutil.copyfile(DETECTOR / "data" / part / name, data / part / name)
    return folder


def refused(folder: Path, code: int, *words: str) -> Done:
    """Plan a build of ``folder``, which must end in ``code`` and one message that holds ``words``."""
    done = edgekit("build", "-c", folder, "--dry-run", "-o", folder / "out")
    assert done.code == code, done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    assert "error:" in done.err
    for word in words:
        assert word in done.err
    assert not (folder / "out").exists(), "a refused build leaves nothing behind"
    return done


def test_the_small_recipes_are_sound(recipe: Path, detector: Path) -> None:
    for folder in (recipe, detector):
        done = edgekit("build", "-c", folder, "--dry-run")
        assert done.code == 0, done.err


def test_truncated_keras_file(recipe: Path) -> None:
    model = recipe / "model.keras"
    model.write_bytes(model.read_bytes()[:100_000])
    refused(recipe, 2, "model.keras", "truncated")


def test_empty_model_file(recipe: Path) -> None:
    (recipe / "model.keras").write_bytes(b"")
    refused(recipe, 2, "model.keras", "empty")


def test_text_file_named_onnx(recipe: Path) -> None:
    (recipe / "model.onnx").write_text("this is not a network\n")
    edit(recipe, '"model.keras"', '"model.onnx"')
    refused(recipe, 2, "model.onnx")


def test_missing_model(recipe: Path) -> None:
    (recipe / "model.keras").unlink()
    refused(recipe, 2, "model.keras", "no model")


def rewrite(model: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    """Write a .keras archive again with its members changed."""
    with zipfile.ZipFile(model) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(model, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def change_activation(model: Path, layer: dict[str, Any]) -> None:
    """Turn the first activation layer of the model into ``layer``."""

    def change(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        first = next(item for item in config["config"]["layers"] if item["class_name"] != "InputLayer")
        first.update(layer)
        members["config.json"] = json.dumps(config).encode()

    rewrite(model, change)


def test_lambda_layer(recipe: Path) -> None:
    body = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None, "closure": None}}
    layer = {
        "class_name": "Lambda",
        "module": "keras.layers",
        "registered_name": None,
        "config": {"name": "conv1", "function": body},
    }
    change_activation(recipe / "model.keras", layer)
    refused(recipe, 4, "Lambda", "conv1")


def test_custom_layer(recipe: Path) -> None:
    layer = {
        "class_name": "Swirl",
        "module": "their.code",
        "registered_name": "their>Swirl",
        "config": {"name": "swirl_1"},
    }
    change_activation(recipe / "model.keras", layer)
    refused(recipe, 4, "Swirl")


def test_nan_weight(recipe: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        stream = io.BytesIO(members["model.weights.h5"])
        with h5py.File(stream, "r+") as file:
            found: list[h5py.Dataset] = []
            file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
            weight = next(item for item in found if item.ndim == 4)
            weight[0, 0, 0, 0] = np.nan
        members["model.weights.h5"] = stream.getvalue()

    rewrite(recipe / "model.keras", change)
    refused(recipe, 4, "NaN", "weight")


def test_corrupt_calibration_image(detector: Path) -> None:
    image = sorted((detector / "data/calibration").iterdir())[2]
    image.write_bytes(image.read_bytes()[:300])
    refused(detector, 2, image.name, "not a readable image")


def test_calibration_folder_without_an_image(detector: Path) -> None:
    shutil.rmtree(detector / "data/calibration")
    (detector / "data/calibration").mkdir()
    refused(detector, 2, "calibration", "holds no image")


def test_calibration_images_of_another_size(detector: Path) -> None:
    edit(detector, "size = [128, 128]", "size = [96, 160]")
    refused(detector, 2, "128x128", "160x96")


def test_labels_naming_missing_images(detector: Path) -> None:
    first = min((detector / "data/test").iterdir())
    first.unlink()
    refused(detector, 2, "test.json", "1 image(s)", first.name)


def test_overlap_of_images(detector: Path) -> None:
    shutil.copyfile(min((detector / "data/test").iterdir()), detector / "data/calibration/again.jpg")
    refused(detector, 2, "1 sample(s)", "data.calibration", "data.test")


def test_overlap_of_arrays(recipe: Path) -> None:
    with np.load(recipe / "data/test.npz") as stored:
        leaked = stored["x"][:3]
    np.savez(recipe / "data/calibration.npz", x=leaked)
    refused(recipe, 2, "3 sample(s)", "data.calibration", "data.test")


def test_overlap_of_unlabelled_arrays(recipe: Path) -> None:
    with np.load(recipe / "data/test.npz") as stored:
        np.savez(recipe / "data/more.npz", x=stored["x"][:3])
    known = 'calibration = "data/calibration.npz"'
    edit(recipe, known, f'{known}\nunlabelled = "data/more.npz"')
    refused(recipe, 2, "3 sample(s)", "data.unlabelled", "data.test")


def test_label_outside_the_classes(recipe: Path) -> None:
    with np.load(recipe / "data/test.npz") as stored:
        x, y = stored["x"], stored["y"].copy()
    y[0] = 99
    np.savez(recipe / "data/test.npz", x=x, y=y)
    refused(recipe, 2, "99", "10 class")


def test_unknown_target(recipe: Path) -> None:
    edit(recipe, '"raspberry-pi-4"', '"rasberry-pi4"')
    refused(recipe, 2, "'rasberry-pi4'", "Did you mean 'raspberry-pi-4'?")


def test_typo_and_every_other_mistake_at_once(recipe: Path) -> None:
    edit(recipe, "accuracy_drop", "acuracy_drop")
    edit(recipe, "min_seconds = 0.1", 'min_seconds = "long"')
    refused(recipe, 2, "2 mistakes", "budget.acuracy_drop", "did you mean 'accuracy_drop'?", "profile.min_seconds")


def test_recipe_that_is_not_toml(recipe: Path) -> None:
    (recipe / "edgekit.toml").write_text("[model\n")
    refused(recipe, 2, "edgekit.toml", "not valid TOML")


def test_no_recipe(tmp_path: Path) -> None:
    refused(tmp_path, 2, "There is no recipe", "edgekit.toml")
