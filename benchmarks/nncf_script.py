"""Quantize an ONNX file with NNCF, in NNCF's own environment: MODEL CALIBRATION.npz PRESET OUT."""

import sys

import nncf  # type: ignore[import-not-found]
import numpy as np
import onnx


def main(model: str, calibration: str, preset: str, out: str) -> None:
    """Quantize with NNCF's defaults, on all samples of the archive."""
    with np.load(calibration, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    count = len(next(iter(arrays.values())))
    samples = [{name: array[i : i + 1] for name, array in arrays.items()} for i in range(count)]
    quantized = nncf.quantize(
        onnx.load(model), nncf.Dataset(samples), preset=nncf.QuantizationPreset[preset], subset_size=count
    )
    onnx.save(quantized, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
