"""Recreate the Fashion-MNIST classifier and its data from the files of a Debian package.

    apt-get install dataset-fashion-mnist    (files: /usr/share/datasets/fashion-mnist)
    python -m sample_models.fashion_classifier.make

Run from the repository root. Test pictures come from the official test part; calibration pictures are
taken out of the training part.
"""

import argparse
import gzip
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from edgekit import keras_io
from sample_models.classifier_training import top1_accuracy, train_classifier

HERE = Path(__file__).parent
SOURCE = Path("/usr/share/datasets/fashion-mnist")
TEST_COUNT, CALIBRATION_COUNT, COMMITTED_TRAIN_COUNT = 1000, 300, 5000


def main() -> None:
    """Write the data, train, save and score."""
    parser = argparse.ArgumentParser(description="Recreate the Fashion-MNIST classifier and its data.")
    parser.add_argument("--source", type=Path, default=SOURCE, help="folder with the four idx files")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    parts = load_parts(options.source)
    write_parts(parts, options.out / "data")
    x, y = parts["train"]
    started = time.monotonic()
    keras_io.deterministic(options.seed)
    model = train_classifier(
        build_classifier(), x / np.float32(255), y,
        epochs=options.epochs, batch_size=128, peak_learning_rate=3e-3, weight_decay=1e-3,
    )  # fmt: skip
    minutes = (time.monotonic() - started) / 60
    keras_io.save(model, options.out / "model.keras")
    x, y = parts["test"]
    accuracy = top1_accuracy(model, x / np.float32(255), y)
    print(f"top-1 {accuracy:.4f}, {model.count_params()} parameters, trained in {minutes:.1f} minutes")


def build_classifier() -> keras.Model:
    """Return the untrained network: "image" (28, 28, 1) in [0, 1] to "probabilities" (10,)."""
    image = keras.Input((28, 28, 1), name="image")
    x = _conv_bn_relu(image, 16, "conv1")
    x = _conv_bn_relu(x, 32, "conv2", strides=2)
    shortcut = x = _conv_bn_relu(x, 48, "conv3")
    x = _conv_bn_relu(x, 48, "conv4")
    x = keras.layers.Add(name="add")([x, shortcut])
    x = _conv_bn_relu(x, 64, "conv5", strides=2)
    x = _conv_bn_relu(x, 64, "conv6")
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dropout(0.2, name="dropout")(x)
    probabilities = keras.layers.Dense(10, activation="softmax", name="probabilities")(x)
    return keras.Model(image, {"probabilities": probabilities}, name="fashion_classifier")


def _conv_bn_relu(x: Any, width: int, name: str, strides: int = 1) -> Any:
    x = keras.layers.Conv2D(width, 3, strides, padding="same", use_bias=False, name=name)(x)
    x = keras.layers.BatchNormalization(momentum=0.97, name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def load_parts(source: Path) -> dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
    """Return "train", "calibration" and "test" as disjoint (images (n, 28, 28, 1), labels (n,)).

    Some pictures occur twice in the original; a picture that another part holds is left out of training.
    """
    test_x, test_y = _read_pictures(source, "t10k")
    test_x, test_y = test_x[:TEST_COUNT], test_y[:TEST_COUNT]
    x, y = _read_pictures(source, "train")
    calibration_x, calibration_y = x[:CALIBRATION_COUNT], y[:CALIBRATION_COUNT]
    taken = {picture.tobytes() for picture in np.concatenate([test_x, calibration_x])}
    free = np.array([picture.tobytes() not in taken for picture in x])
    return {
        "train": (x[free], y[free]),
        "calibration": (calibration_x, calibration_y),
        "test": (test_x, test_y),
    }


def write_parts(parts: dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]], folder: Path) -> None:
    """Write test.npz and train.npz (x, y) and calibration.npz (x)."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "test.npz", x=parts["test"][0], y=parts["test"][1])
    np.savez_compressed(folder / "calibration.npz", x=parts["calibration"][0])
    x, y = (array[:COMMITTED_TRAIN_COUNT] for array in parts["train"])
    np.savez_compressed(folder / "train.npz", x=x, y=y)


def _read_pictures(source: Path, prefix: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Read the idx files: a header of 16 bytes before the pictures, of 8 before the labels."""
    pixels = gzip.decompress((source / f"{prefix}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((source / f"{prefix}-labels-idx1-ubyte.gz").read_bytes())
    x = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    return x, np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)


if __name__ == "__main__":
    main()
