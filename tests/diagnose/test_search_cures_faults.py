"""Each seeded fault of a model is cured by the search, in both formats; those of the data are reported, not hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faults
import numpy as np
import pytest
from diagnosing import PREPROCESS
from faults import agreement

from edgekit.convert import onnx_quantized, tflite_quantized
from edgekit.quantize.plan import Plan
from edgekit.search import stage

OF_THE_MODEL = ("uneven_channels", "outlier_channel", "mixed_outputs", "float_island")
POINT = 0.01
SOME_CALIBRATION = 24


def search(fault: faults.Fault, folder: Path, target_loss: float = 1e-9) -> tuple[dict[str, Any], Path]:
    """Search with the fault's samples and return the summary with the emitted file."""
    samples = fault.calibration
    path = folder / "calibration.npz"
    np.savez(path, allow_pickle=False, **{k: np.concatenate([s[k] for s in samples]) for k in samples[0]})
    out = folder / "search"
    out.mkdir(exist_ok=True)
    found = stage.run(
        out=out, progress=lambda done, text: None, model=fault.source or fault.float_file, format=fault.format,
        precision="int8", scheme="", dataset={"kind": "npz", "path": path, "preprocess": PREPROCESS},
        samples=128, task={"kind": "generic"}, target_loss=target_loss, seconds=30.0,
    )  # fmt: skip
    emit = {"tflite": tflite_quantized.emit, "onnx": onnx_quantized.emit}[fault.format]
    plan = Plan.from_json((out / "plan.json").read_text())
    file = out / f"found.{fault.format}"
    file.write_bytes(emit((out / f"model.{fault.format}").read_bytes(), plan))
    return found, file


@pytest.mark.parametrize("format", ["tflite", "onnx"])
@pytest.mark.parametrize("name", OF_THE_MODEL)
def test_a_fault_of_the_model_is_cured_to_within_a_point(name: str, format: str, tmp_path: Path) -> None:
    fault = faults.FAULTS[name](format, tmp_path)
    found, file = search(fault, tmp_path, target_loss=POINT)
    assert agreement(fault, file) >= 1 - 1.5 * POINT, found["log"]
    assert found["reached"], found["log"]


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_a_wide_hard_swish_loses_a_fifth_of_what_it_lost_and_the_rest_is_not_hidden(
    format: str, tmp_path: Path
) -> None:
    fault = faults.wide_hard_swish(format, tmp_path)
    ruined = 1 - agreement(fault, faults.quantize(fault, tmp_path))
    found, file = search(fault, tmp_path, target_loss=POINT)
    assert 1 - agreement(fault, file) <= ruined / 5
    assert found["reached"] == (found["loss"] <= POINT)


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_four_plain_images_are_said_to_be_too_few_or_missed(format: str, tmp_path: Path) -> None:
    fault = faults.few_calibration_samples(format, tmp_path)
    found, _ = search(fault, tmp_path)
    assert found["samples"] + found["held_samples"] == len(fault.calibration)
    assert any("calibration" in note for note in found["notes"]), found["notes"]
