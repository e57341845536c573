"""Train the hard detector and save it.

Run from the repository root, with the `samples` extra installed:

    python -m benchmarks.hard_detector.make
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np

from benchmarks.hard_detector.training import rescale_channels, train_detector
from edgekit import keras_io
from sample_models.digits_detector.coco_files import compose_as_jpeg
from sample_models.digits_detector.evaluation import evaluate_detector
from sample_models.digits_detector.make import SEEDS
from sample_models.digits_detector.scenes import load_material

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "sample_models" / "digits_detector" / "data"


def main() -> None:
    """Compose the sample's training scenes, train, save and score."""
    options = _parse_options()
    scenes = [scene for _, scene in compose_as_jpeg(load_material()["train"], options.train_scenes, SEEDS["train"])]

    def save_snapshot(model: keras.Model, epoch: int) -> None:
        keras_io.save(model, options.out / "model.keras")

    started = time.monotonic()
    model = train_detector(scenes, epochs=options.epochs, seed=options.seed, after_epoch=save_snapshot)
    minutes = (time.monotonic() - started) / 60
    rescale_channels(model, np.random.default_rng(options.seed))
    keras_io.save(model, options.out / "model.keras")
    mean_ap, mean_ap_50 = evaluate_detector(model, DATA / "test", DATA / "test.json")
    print(f"mAP@[.5:.95] {mean_ap:.4f}, mAP@.5 {mean_ap_50:.4f}, {model.count_params()} parameters")
    print(f"trained in {minutes:.1f} minutes")


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the hard detector.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: this one)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--train-scenes", type=int, default=7000)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
