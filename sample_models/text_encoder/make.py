"""Recreate the text encoder and its data: which topic is a snippet of documentation about?

    python -m sample_models.text_encoder.make

Run from the repository root, with the `samples` extra installed. The text is the documentation strings of
networkx, scikit-image, scikit-learn, Keras and SciPy; other versions of them give other snippets.
"""

import argparse
import json
import sysconfig
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from edgekit import keras_io
from sample_models.classifier_training import top1_accuracy, train_classifier
from sample_models.text_encoder.snippets import (
    SNIPPET_WORDS,
    TOPICS,
    VOCABULARY_SIZE,
    collect_snippets,
    draw_balanced,
    encode,
    learn_vocabulary,
)

HERE = Path(__file__).parent
TEST_COUNT, CALIBRATION_COUNT, COMMITTED_TRAIN_COUNT = 1000, 300, 5000
TRAIN_PER_TOPIC = 1500
WIDTH, HEADS, INNER_WIDTH, BLOCKS = 64, 4, 192, 2


def main() -> None:
    """Write the data, train, save and score."""
    parser = argparse.ArgumentParser(description="Recreate the text encoder and its data.")
    parser.add_argument("--out", type=Path, default=HERE)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    arrays = make_arrays()
    write_arrays(arrays, options.out / "data")
    started = time.monotonic()
    keras_io.deterministic(options.seed)
    model = train_classifier(
        build_encoder(), arrays["train_x"], arrays["train_y"],
        epochs=options.epochs, batch_size=64, peak_learning_rate=1e-3, weight_decay=1e-2,
    )  # fmt: skip
    minutes = (time.monotonic() - started) / 60
    keras_io.save(model, options.out / "model.keras")
    accuracy = top1_accuracy(model, arrays["test_x"], arrays["test_y"])
    print(f"top-1 {accuracy:.4f}, {model.count_params()} parameters, trained in {minutes:.1f} minutes")


def build_encoder() -> keras.Model:
    """Return the untrained network: "tokens" (64,) int32 to "probabilities" (7,).

    The projection's bias has one row per position: those are the learned positions, in a standard layer.
    """
    tokens = keras.Input((SNIPPET_WORDS,), dtype="int32", name="tokens")
    x = keras.layers.Embedding(VOCABULARY_SIZE, WIDTH, name="embedding")(tokens)
    x = keras.layers.EinsumDense("btc,cd->btd", (SNIPPET_WORDS, WIDTH), bias_axes="td", name="positions")(x)
    for number in range(1, BLOCKS + 1):
        x = _transformer_block(x, f"block{number}")
    x = keras.layers.LayerNormalization(name="final_norm")(x)
    x = keras.layers.GlobalAveragePooling1D(name="pool")(x)
    x = keras.layers.Dropout(0.3, name="dropout")(x)
    probabilities = keras.layers.Dense(len(TOPICS), activation="softmax", name="probabilities")(x)
    return keras.Model(tokens, {"probabilities": probabilities}, name="text_encoder")


def _transformer_block(x: Any, name: str) -> Any:
    """Pre-norm attention and feed-forward, each with its residual connection."""
    normed = keras.layers.LayerNormalization(name=f"{name}_norm1")(x)
    attention = keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS, dropout=0.1, name=f"{name}_attention")
    x = keras.layers.Add(name=f"{name}_add1")([x, attention(normed, normed)])
    inner = keras.layers.LayerNormalization(name=f"{name}_norm2")(x)
    inner = keras.layers.Dense(INNER_WIDTH, activation="gelu", name=f"{name}_expand")(inner)
    inner = keras.layers.Dense(WIDTH, name=f"{name}_reduce")(inner)
    return keras.layers.Add(name=f"{name}_add2")([x, inner])


def make_arrays() -> dict[str, Any]:
    """Return token ids, topics and the vocabulary, learned from the training snippets only."""
    parts = collect_snippets(Path(sysconfig.get_paths()["purelib"]))
    rng = np.random.default_rng(0)
    train = draw_balanced(parts["train"], TRAIN_PER_TOPIC, rng)
    test = draw_balanced(parts["test"], -(-TEST_COUNT // len(TOPICS)) * 2, rng)
    calibration = draw_balanced(parts["calibration"], CALIBRATION_COUNT, rng)
    vocabulary = learn_vocabulary(train)
    return {
        "vocabulary": vocabulary,
        "train_x": encode(train, vocabulary), "train_y": train.topics,
        "test_x": encode(test, vocabulary)[:TEST_COUNT], "test_y": test.topics[:TEST_COUNT],
        "calibration_x": encode(calibration, vocabulary)[:CALIBRATION_COUNT],
    }  # fmt: skip


def write_arrays(arrays: dict[str, Any], folder: Path) -> None:
    """Write test.npz and train.npz (x, y), calibration.npz (x) and the vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "test.npz", x=arrays["test_x"], y=arrays["test_y"])
    np.savez_compressed(folder / "calibration.npz", x=arrays["calibration_x"])
    x, y = (arrays[f"train_{key}"][:COMMITTED_TRAIN_COUNT] for key in "xy")
    np.savez_compressed(folder / "train.npz", x=x, y=y)
    text = json.dumps(arrays["vocabulary"], indent=0) + "\n"
    (folder / "vocabulary.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
