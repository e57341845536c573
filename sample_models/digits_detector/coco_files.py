"""Write composed scenes as JPEG files with COCO annotations, and read them back."""

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from sample_models.digits_detector.scenes import SCENE_SIZE, Material, Scene, compose_scene

JPEG_QUALITY = 90


def compose_as_jpeg(material: Material, count: int, seed: int) -> Iterable[tuple[bytes, Scene]]:
    """Yield `count` scenes with their JPEG bytes; the scene's pixels are those the JPEG decodes to."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        scene = compose_scene(material, rng)
        buffer = io.BytesIO()
        Image.fromarray(scene.pixels).save(buffer, "JPEG", quality=JPEG_QUALITY)
        decoded = np.asarray(Image.open(buffer).convert("RGB"))
        yield buffer.getvalue(), Scene(decoded, scene.boxes, scene.classes)


def write_images(scenes: Iterable[tuple[bytes, Scene]], folder: Path) -> None:
    """Write the JPEG files as 0001.jpg, 0002.jpg, ... and no labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (content, _) in enumerate(scenes, 1):
        (folder / f"{number:04d}.jpg").write_bytes(content)


def write_labelled(scenes: Iterable[tuple[bytes, Scene]], folder: Path) -> None:
    """Write the JPEG files to `folder` and COCO annotations to `folder`.json; a category id is the digit."""
    kept = list(scenes)
    write_images(kept, folder)
    annotations: list[dict[str, Any]] = []
    for number, (_, scene) in enumerate(kept, 1):
        for box, class_index in zip(scene.boxes, scene.classes, strict=True):
            x, y, right, bottom = (int(value) for value in box)
            width, height = right - x, bottom - y
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": int(class_index),
                "bbox": [x, y, width, height], "area": width * height, "iscrowd": 0,
            })  # fmt: skip
    document = {
        "info": {"description": "handwritten digits on photographs"},
        "images": [
            {"id": number, "file_name": f"{number:04d}.jpg", "width": SCENE_SIZE, "height": SCENE_SIZE}
            for number in range(1, len(kept) + 1)
        ],
        "annotations": annotations,
        "categories": [{"id": digit, "name": str(digit)} for digit in range(10)],
    }
    folder.with_suffix(".json").write_text(json.dumps(document, separators=(",", ":")) + "\n", encoding="utf-8")


def read_images(folder: Path, annotation_file: Path) -> tuple[list[int], npt.NDArray[np.float32]]:
    """Return the image ids and the decoded images (n, 128, 128, 3) in [0, 1], in annotation order."""
    images = json.loads(annotation_file.read_text(encoding="utf-8"))["images"]
    pixels = [np.asarray(Image.open(folder / image["file_name"]).convert("RGB")) for image in images]
    return [image["id"] for image in images], np.stack(pixels).astype(np.float32) / 255.0
