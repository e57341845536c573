"""The sample models are complete, small, honest about their splits, and plain data."""

import hashlib
import io
import json
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image

SAMPLES = Path(__file__).parents[2] / "sample_models"
DETECTOR = SAMPLES / "digits_detector"
NAMES = ["digits_detector", "fashion_classifier", "text_encoder"]
NPZ_NAMES = ["fashion_classifier", "text_encoder"]
MAX_FOLDER_BYTES = 20_000_000
IMAGE_COUNTS = {"test": 500, "calibration": 256, "train": 1500}


def model_config(name: str) -> dict[str, Any]:
    with zipfile.ZipFile(SAMPLES / name / "model.keras") as archive:
        config: dict[str, Any] = json.loads(archive.read("config.json"))
    return config


def image_size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def content_hashes(folder: Path) -> set[str]:
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.jpg")}


@pytest.mark.parametrize("name", NAMES)
def test_folder_is_complete_and_small(name: str) -> None:
    folder = SAMPLES / name
    recipe = tomllib.loads((folder / "edgekit.toml").read_text(encoding="utf-8"))
    named = [recipe["model"]["path"], *(value for key, value in recipe["data"].items() if key != "kind")]
    assert [path for path in [*named, "make.py"] if not (folder / path).exists()] == []
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) <= MAX_FOLDER_BYTES


@pytest.mark.parametrize("name", NAMES)
def test_model_holds_no_optimizer_state(name: str) -> None:
    with zipfile.ZipFile(SAMPLES / name / "model.keras") as archive:
        weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r")
    assert "layers" in weights
    assert "optimizer" not in weights
    assert not model_config(name).get("compile_config")


@pytest.mark.parametrize("name", NAMES)
def test_model_is_built_of_standard_keras_layers(name: str) -> None:
    layers = model_config(name)["config"]["layers"]
    assert layers
    assert {layer["module"] for layer in layers} == {"keras.layers"}
    assert {layer["registered_name"] for layer in layers} == {None}
    assert "Lambda" not in {layer["class_name"] for layer in layers}


@pytest.mark.parametrize("name", NAMES)
def test_model_archive_carries_no_date_of_its_own(name: str) -> None:
    with zipfile.ZipFile(SAMPLES / name / "model.keras") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(2000, 1, 1, 0, 0, 0)}
        assert json.loads(archive.read("metadata.json"))["date_saved"] == "2000-01-01@00:00:00"


def test_detector_outputs_are_named_boxes_and_scores() -> None:
    assert sorted(model_config("digits_detector")["config"]["output_layers"]) == ["boxes", "scores"]


@pytest.mark.parametrize("part", ["test", "train"])
def test_detector_annotations_fit_their_images(part: str) -> None:
    document = json.loads((DETECTOR / "data" / f"{part}.json").read_text(encoding="utf-8"))
    folder = DETECTOR / "data" / part
    assert {image["file_name"] for image in document["images"]} == {path.name for path in folder.iterdir()}
    sizes = {image_size(folder / image["file_name"]) for image in document["images"]}
    assert sizes == {(128, 128)} == {(image["width"], image["height"]) for image in document["images"]}
    assert [category["name"] for category in document["categories"]] == list("0123456789")
    image_ids = {image["id"] for image in document["images"]}
    category_ids = {category["id"] for category in document["categories"]}
    for annotation in document["annotations"]:
        x, y, width, height = annotation["bbox"]
        assert annotation["image_id"] in image_ids
        assert annotation["category_id"] in category_ids
        assert 0 <= x < x + width <= 128
        assert 0 <= y < y + height <= 128
    assert {annotation["category_id"] for annotation in document["annotations"]} == category_ids


def test_detector_parts_have_their_counts_and_share_no_image() -> None:
    hashes = {part: content_hashes(DETECTOR / "data" / part) for part in IMAGE_COUNTS}
    assert {part: len(found) for part, found in hashes.items()} == IMAGE_COUNTS
    assert len(set.union(*hashes.values())) == sum(IMAGE_COUNTS.values())


@pytest.mark.parametrize("name", NPZ_NAMES)
def test_npz_parts_share_no_sample(name: str) -> None:
    data = SAMPLES / name / "data"
    rows = {part: {row.tobytes() for row in np.load(data / f"{part}.npz")["x"]} for part in IMAGE_COUNTS}
    assert not rows["test"] & rows["calibration"]
    assert not rows["test"] & rows["train"]
    assert not rows["calibration"] & rows["train"]


@pytest.mark.parametrize("name", NPZ_NAMES)
def test_npz_labels_cover_every_class(name: str) -> None:
    recipe = tomllib.loads((SAMPLES / name / "edgekit.toml").read_text(encoding="utf-8"))
    for part in ("test", "train"):
        arrays = np.load(SAMPLES / name / "data" / f"{part}.npz")
        assert len(arrays["x"]) == len(arrays["y"])
        assert arrays["y"].dtype == np.int64
        assert set(arrays["y"].tolist()) == set(range(len(recipe["task"]["classes"])))


def test_npz_counts_and_shapes() -> None:
    shapes = {
        f"{name}/{part}": np.load(SAMPLES / name / "data" / f"{part}.npz")["x"].shape
        for name in NPZ_NAMES
        for part in IMAGE_COUNTS
    }
    assert shapes == {
        "fashion_classifier/test": (1000, 28, 28, 1),
        "fashion_classifier/calibration": (300, 28, 28, 1),
        "fashion_classifier/train": (5000, 28, 28, 1),
        "text_encoder/test": (1000, 64),
        "text_encoder/calibration": (300, 64),
        "text_encoder/train": (5000, 64),
    }
