"""Make what the benchmark builds on: the data scaled, and the trained detector.

From the repository root: python -m benchmarks.blood_cells.make BCCD OUT (--help: epochs, batch, width, seed)
Writes OUT/data and OUT/model.keras (OUT/width-W-seed-S.keras for a narrower one).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.blood_cells.network import build
from benchmarks.blood_cells.prepare import prepare
from benchmarks.detector_training import train
from edgekit import keras_io


def main() -> None:
    """Prepare the data, train, save."""
    parser = argparse.ArgumentParser(description="Prepare BCCD and train the detector.")
    parser.add_argument("bccd", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=110)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    data = options.out / "data"
    if not data.exists():
        prepare(options.bccd, data)
    keras_io.deterministic(options.seed)
    model = build(options.width)
    train(model, data, epochs=options.epochs, seed=options.seed, symmetric=True, batch=options.batch)
    name = "model" if options.width == 1.0 else f"width-{options.width:g}-seed-{options.seed}"
    keras_io.save(model, options.out / f"{name}.keras")


if __name__ == "__main__":
    main()
