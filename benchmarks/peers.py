"""What other tools make of a float model: each function runs in a process of its own and writes one file.

All get the same calibration samples and the tool's own defaults besides what the setting's name says. Inputs and
outputs of the files stay float, so that every file is scored by the same code.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from ai_edge_quantizer import qtyping, quantizer, recipe
from ai_edge_quantizer.algorithm_manager import AlgorithmName
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgekit.errors import StageError
from edgekit.progress import Progress

Arrays = dict[str, npt.NDArray[Any]]
SIGNATURE = "serving_default"
NNCF_SCRIPT = Path(__file__).with_name("nncf_script.py")


def onnxruntime_static(
    *, out: Path, progress: Progress, float_file: Path, saved_model: Path, calibration: Path, per_channel: bool
) -> dict[str, Any]:
    """Quantize with the documented two steps; ``per_channel`` also takes the unsigned activations x86 is fast with."""
    prepared = out / "prepared.onnx"
    quant_pre_process(str(float_file), str(prepared), skip_symbolic_shape=True)
    reader = _Reader(_samples(calibration))
    if per_channel:
        quantize_static(
            prepared, out / "model.onnx", reader, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
    else:
        quantize_static(prepared, out / "model.onnx", reader)
    return {}


def tflite_converter(
    *, out: Path, progress: Progress, float_file: Path, saved_model: Path, calibration: Path, calibrated: bool
) -> dict[str, Any]:
    """Convert the SavedModel with Optimize.DEFAULT, and with a representative dataset where ``calibrated``."""
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved_model), signature_keys=[SIGNATURE])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if calibrated:
        converter.representative_dataset = lambda: iter(_samples(calibration))
    (out / "model.tflite").write_bytes(converter.convert())
    return {}


def ai_edge_quantizer(
    *, out: Path, progress: Progress, float_file: Path, saved_model: Path, calibration: Path
) -> dict[str, Any]:
    """Apply its static int8 recipe to the float .tflite, except to the model's inputs and outputs."""
    worker = quantizer.Quantizer(str(float_file), recipe.static_wi8_ai8())
    for end in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        worker.update_quantization_recipe(".*", end, algorithm_key=AlgorithmName.NO_QUANTIZE)
    statistics = worker.calibrate({SIGNATURE: _samples(calibration)})
    content = worker.quantize(statistics).quantized_model
    if content is None:
        raise StageError("the quantizer returned no model")
    (out / "model.tflite").write_bytes(content)
    return {}


def nncf(
    *, out: Path, progress: Progress, float_file: Path, saved_model: Path, calibration: Path, preset: str, python: Path
) -> dict[str, Any]:
    """Run NNCF with the Python of its own environment. Raises StageError with the end of its log."""
    command: list[str | Path] = [python, NNCF_SCRIPT, float_file, calibration, preset, out / "model.onnx"]
    done = subprocess.run(command, env={**os.environ, "NNCF_TELEMETRY": "0"}, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise StageError(f"nncf ended with code {done.returncode}: {last}")
    return {}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, samples: list[Arrays]) -> None:
        self._rest: Iterator[Arrays] = iter(samples)

    def get_next(self) -> Arrays | None:
        return next(self._rest, None)


def _samples(calibration: Path) -> list[Arrays]:
    """Read the samples, batch 1 each, by input name."""
    with np.load(calibration, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    count = len(next(iter(arrays.values())))
    return [{name: array[i : i + 1] for name, array in arrays.items()} for i in range(count)]
