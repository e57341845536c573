from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import truth_of_squares
from PIL import Image

from edgekit import keras_io, worker
from edgekit.recipe import TaskTable
from edgekit.recipe.prune import PruneTable

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
CLASSES = ["red", "green"]
PIXELS = {"size": None, "color": "rgb", "mean": [0.0], "scale": [1 / 255]}


def coco(folder: Path) -> dict[str, Any]:
    """Write drawn squares as PNG files with COCO annotations, and return the stage's ``dataset``."""
    images, truth = truth_of_squares.scenes(24)
    (folder / "images").mkdir()
    document: dict[str, list[Any]] = {"images": [], "annotations": []}
    document["categories"] = [{"id": number, "name": name} for number, name in enumerate(CLASSES)]
    for number, (pixels, sample) in enumerate(zip(images, truth, strict=True)):
        name = f"{number:02}.png"
        Image.fromarray((np.clip(pixels, 0, 1) * 255).astype(np.uint8)).save(folder / "images" / name)
        document["images"].append({"id": number, "file_name": name})
        for (x1, y1, x2, y2), category in zip(sample.boxes.tolist(), sample.classes.tolist(), strict=True):
            entry = {"image_id": number, "category_id": category, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            document["annotations"].append(entry | {"id": len(document["annotations"])})
    (folder / "train.json").write_text(json.dumps(document))
    return {
        "kind": "coco", "path": folder / "images", "labels": folder / "train.json", "classes": CLASSES,
        "preprocess": PIXELS,
    }  # fmt: skip


def test_a_detector_recovers_on_labelled_images_without_an_adapter(tmp_path: Path) -> None:
    keras_io.save(truth_of_squares.dense_detector(), tmp_path / "model.keras")
    shape = {"keep_macs": 0.7, "cost": "macs", "round_to": 8, "min_channels": 8, "importance": "taylor"}
    table = PruneTable(**shape, epochs=2, batch=4, moved_share=0.5, symmetric=True, controls=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "work").mkdir()
    found = worker.run(
        "edgekit.prune.stage:run",
        {"work": tmp_path / "work", "model": tmp_path / "model.keras", "dataset": coco(tmp_path), "labelled": True,
         "task": TaskTable(kind="detection").model_dump(mode="json"), "adapter": None, "teacher": None,
         "student": None, "costs": [], "precisions": ["float32"],
         "settings": table.model_dump(mode="json"),
         "aim": {"accuracy_drop": 1.0, "slack": 0.01}},
        tmp_path / "out", lambda done, text: None, label="prune",
    )  # fmt: skip
    assert found["recovery"] == "labels (task-aligned scores and boxes) + distillation"
    assert found["recovery_epochs"] == 2
    assert found["macs_after"] < found["macs_before"]
    assert (tmp_path / "out" / "pruned.keras").is_file()
