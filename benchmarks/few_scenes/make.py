"""Train the digits detector on the 1,500 committed scenes alone, as people have them, and compose fresh test scenes.

From the repository root: python -m benchmarks.few_scenes.make OUT [--epochs 60] [--width 1.0] [--seed 0]
Writes OUT/model.keras (OUT/width-W-seed-S.keras for another width or seed), and OUT/test with 3,000 scenes.
"""

from __future__ import annotations

import argparse
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
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.out / "test").exists():
        scenes = compose_as_jpeg(load_material()["test"], TEST_SCENES, SEEDS["extra-test"])
        write_labelled(scenes, options.out / "test")
    keras_io.deterministic(options.seed)
    model = build_detector(options.width)
    train(model, HERE / "data", epochs=options.epochs, seed=options.seed, symmetric=False)
    plain = (options.width, options.seed) == (1.0, 0)
    name = "model" if plain else f"width-{options.width:g}-seed-{options.seed}"
    keras_io.save(model, options.out / f"{name}.keras")


if __name__ == "__main__":
    main()
