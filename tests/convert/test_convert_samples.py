"""The float files of all three samples compute what Keras computes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit import recipe
from edgekit.convert import hand_off, stage

SAMPLES = Path(__file__).parents[2] / "sample_models"
TOLERANCE = 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits_detector", "fashion_classifier", "text_encoder"])
def test_both_formats_agree_with_keras(tmp_path: Path, name: str) -> None:
    wanted = recipe.load(SAMPLES / name)
    dataset = {
        "kind": wanted.data.kind,
        "path": wanted.data.calibration,
        "preprocess": wanted.preprocess.model_dump(mode="json"),
    }
    silent = lambda done, text: None  # noqa: E731
    stage.float_model(
        out=tmp_path, progress=silent, model=wanted.model.path, source="keras", dataset=dataset, samples=8
    )
    for format in ("tflite", "onnx"):
        made = stage.float_artifact(
            out=tmp_path, progress=silent, saved_model=tmp_path / stage.SAVED_MODEL, format=format,
            precision="float32", reference=tmp_path / hand_off.REFERENCE, inputs=tmp_path / hand_off.INPUTS,
            tolerance=TOLERANCE,
        )  # fmt: skip
        assert made["parity_error"] <= TOLERANCE
