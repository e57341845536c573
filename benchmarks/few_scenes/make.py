"""Train the digits detector on the 1,500 committed scenes alone, as people have them, and compose fresh test scenes.

From the repository root:

    python -m benchmarks.few_scenes.make OUT                                                  the sample's network
    python -m benchmarks.few_scenes.make OUT --name wide --width 0.5 --heads 128 128 --batch 8     a generous one

Writes OUT/NAME.keras, model.keras unless named, and what the recipes beside this file read: OUT/adapter.py and
OUT/data, with 3,000 test scenes. Scenes that lose their labels join those of calibration in data/unlabelled.
It refuses to write over a network.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from benchmarks.detector_training import train
from edgekit import keras_io
from sample_models.digits_detector.coco_files import compose_as_jpeg, write_labelled
from sample_models.digits_detector.make import HERE, SEEDS
from sample_models.digits_detector.network import build_detector
from sample_models.digits_detector.scenes import load_material

TEST_SCENES = 3000


def main() -> None:
    """Compose, train, save."""
    parser = argparse.ArgumentParser(description="Train the digits detector on few scenes.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--width", type=float, default=1.0, help="multiplier of every hidden width")
    parser.add_argument("--heads", type=int, nargs="*", default=(), help="widths of the convolutions of each head")
    parser.add_argument("--scenes", type=int, default=1500, help="that keep their labels, once for each OUT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="model")
    options = parser.parse_args()
    network = options.out / f"{options.name}.keras"
    if network.exists():
        parser.error(f"{network} is there already: give this one another --name")
    if not (options.out / "data").exists():
        _write_data(options.out, options.scenes)
    keras_io.deterministic(options.seed)
    model = build_detector(options.width, options.heads)
    train(model, options.out / "data", epochs=options.epochs, seed=options.seed, symmetric=False, batch=options.batch)
    keras_io.save(model, network)


def _write_data(out: Path, scenes: int) -> None:
    shutil.copytree(HERE / "data", out / "data", ignore=shutil.ignore_patterns("test*"))
    labels = out / "data" / "train.json"
    known = json.loads(labels.read_text())
    shutil.copytree(out / "data" / "calibration", out / "data" / "unlabelled")
    for image in known["images"][scenes:]:
        name = image["file_name"]
        (out / "data" / "train" / name).rename(out / "data" / "unlabelled" / f"train_{name}")
    known["images"] = known["images"][:scenes]
    kept = {image["id"] for image in known["images"]}
    known["annotations"] = [each for each in known["annotations"] if each["image_id"] in kept]
    labels.write_text(json.dumps(known))
    shutil.copyfile(HERE / "adapter.py", out / "adapter.py")
    write_labelled(compose_as_jpeg(load_material()["test"], TEST_SCENES, SEEDS["extra-test"]), out / "data" / "test")


if __name__ == "__main__":
    main()
