"""Recreate the digits detector and its data from the digits and photographs that two packages carry.

Run from the repository root, with the `samples` extra installed:

    python -m sample_models.digits_detector.make                        data, training, evaluation
    python -m sample_models.digits_detector.make --skip-training        data only
    python -m sample_models.digits_detector.make --extra-test 2000 OUT  more labelled test scenes

Digits: scikit-learn `load_digits`. Photographs: scikit-image and scikit-learn. Nothing is downloaded.
"""

import argparse
import resource
import time
from itertools import islice
from pathlib import Path

import keras

from edgekit import keras_io
from sample_models.digits_detector.coco_files import compose_as_jpeg, write_images, write_labelled
from sample_models.digits_detector.evaluation import evaluate_detector
from sample_models.digits_detector.scenes import load_material
from sample_models.digits_detector.training import train_detector

HERE = Path(__file__).parent
SEEDS = {"train": 1, "calibration": 2, "test": 3, "extra-test": 4}
TEST_SCENES, CALIBRATION_SCENES, COMMITTED_TRAIN_SCENES = 500, 256, 1500


def main() -> None:
    """Compose the scenes, train, save and score."""
    options = _parse_options()
    material = load_material()
    if options.extra_test is not None:
        count, out = int(options.extra_test[0]), Path(options.extra_test[1])
        write_labelled(compose_as_jpeg(material["test"], count, SEEDS["extra-test"]), out / "test")
        return
    data = options.out / "data"
    write_labelled(compose_as_jpeg(material["test"], TEST_SCENES, SEEDS["test"]), data / "test")
    calibration = compose_as_jpeg(material["calibration"], CALIBRATION_SCENES, SEEDS["calibration"])
    write_images(calibration, data / "calibration")
    train_scenes = list(compose_as_jpeg(material["train"], options.train_scenes, SEEDS["train"]))
    write_labelled(islice(train_scenes, COMMITTED_TRAIN_SCENES), data / "train")
    if options.skip_training:
        return

    def save_snapshot(model: keras.Model, epoch: int) -> None:
        if options.snapshot is not None:
            keras_io.save(model, options.snapshot)

    started = time.monotonic()
    model = train_detector(
        [scene for _, scene in train_scenes],
        epochs=options.epochs,
        seed=options.seed,
        width_multiplier=options.width,
        after_epoch=save_snapshot,
    )
    minutes = (time.monotonic() - started) / 60
    keras_io.save(model, options.out / "model.keras")
    mean_ap, mean_ap_50 = evaluate_detector(model, data / "test", data / "test.json")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"mAP@[.5:.95] {mean_ap:.4f}, mAP@.5 {mean_ap_50:.4f}, {model.count_params()} parameters")
    print(f"trained in {minutes:.1f} minutes, peak memory {peak_mb:.0f} MB")


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Recreate the digits detector and its data.")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write to (default: this sample)")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--train-scenes", type=int, default=8000, help="scenes composed for training")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training; the scenes' seeds are fixed")
    parser.add_argument("--width", type=float, default=1.0, help="multiplier of every hidden width")
    parser.add_argument("--skip-training", action="store_true", help="write the data only")
    parser.add_argument("--snapshot", type=Path, help="also save the model here after each epoch")
    parser.add_argument(
        "--extra-test", nargs=2, metavar=("N", "OUT"), help="write N more test scenes to OUT, then stop"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
