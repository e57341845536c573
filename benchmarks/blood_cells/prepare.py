"""Write the BCCD photographs, scaled to the detector's input, and their boxes as COCO files.

Official splits: `trainval` (292 photographs) is learned from and calibrated on, `test` (72) is scored on. Of the
training photographs 64 without their labels are calibration, too; nothing of `test` is in either.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from PIL import Image

SIZE = 160
CLASSES = ("RBC", "WBC", "Platelets")
CALIBRATION = 64


def prepare(bccd: Path, out: Path) -> None:
    """Read the data set's folder ``bccd`` (with Annotations, ImageSets, JPEGImages) and write ``out``."""
    for split, name in (("trainval", "train"), ("test", "test")):
        names = (bccd / "ImageSets" / "Main" / f"{split}.txt").read_text().split()
        (out / name).mkdir(parents=True, exist_ok=True)
        document = _coco(bccd, names, out / name)
        (out / f"{name}.json").write_text(json.dumps(document))
        if name == "train":
            (out / "calibration").mkdir(exist_ok=True)
            for entry in document["images"][:: len(names) // CALIBRATION][:CALIBRATION]:
                content = (out / name / entry["file_name"]).read_bytes()
                (out / "calibration" / entry["file_name"]).write_bytes(content)


def _coco(bccd: Path, names: list[str], folder: Path) -> dict[str, Any]:
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, name in enumerate(names, 1):
        with Image.open(bccd / "JPEGImages" / f"{name}.jpg") as image:
            width, height = image.size
            image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BOX).save(folder / f"{name}.png")
        images.append({"id": number, "file_name": f"{name}.png", "width": SIZE, "height": SIZE})
        for category, box in _boxes(bccd / "Annotations" / f"{name}.xml", SIZE / width, SIZE / height):
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": category, "bbox": box,
                "area": box[2] * box[3], "iscrowd": 0,
            })  # fmt: skip
    categories = [{"id": index, "name": name} for index, name in enumerate(CLASSES, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _boxes(path: Path, across: float, down: float) -> list[tuple[int, list[float]]]:
    """Return (category, [x, y, width, height]) of each object, scaled; empty boxes are left out."""
    found = []
    for item in ElementTree.parse(path).getroot().iter("object"):
        box = item.find("bndbox")
        assert box is not None
        left, top, right, bottom = (float(box.findtext(key, "0")) for key in ("xmin", "ymin", "xmax", "ymax"))
        if right > left and bottom > top:
            category = 1 + CLASSES.index(item.findtext("name", ""))
            found.append((category, [left * across, top * down, (right - left) * across, (bottom - top) * down]))
    return found
