"""Every seeded fault is named first, with its place; a healthy model is left alone. Both formats, real runtimes."""

from __future__ import annotations

from pathlib import Path

import faults
import pytest
from diagnosing import diagnose

from edgekit.diagnose.causes import SMALL_BLAME
from edgekit.diagnose.schema import Diagnosis, Finding

FORMATS = ("tflite", "onnx")
PLACES = {
    "uneven_channels": "stem",
    "outlier_channel": "stem",
    "mixed_outputs": "detections",
    "wide_hard_swish": "swish",
    "few_calibration_samples": "boxes",
    "wrong_normalization": "image",
    "swapped_layout": "image",
    "float_island": "island",
    "saturated_output": "logits",
}
PROOFS = {  # what the figures must say, beside their size
    "uneven_channels": "with a scale for each channel",
    "outlier_channel": "channel 5 reaches",
    "mixed_outputs": "'scores' has 0.",
    "wide_hard_swish": "'wide' runs from -",
    "few_calibration_samples": "the input fits",
    "wrong_normalization": "'image' can hold 0 .. 1, the samples reach -2 .. 2",
    "swapped_layout": "BGR for RGB",
    "float_island": "2 border(s)",
    "saturated_output": "all tensors before it fit",
}


def found_in(name: str, format: str, folder: Path) -> tuple[faults.Fault, Diagnosis]:
    fault = faults.FAULTS[name](format, folder) if name else faults.healthy(format, folder)
    return fault, diagnose(fault.float_file, faults.quantize(fault, folder), fault.evaluation, folder)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", faults.FAULTS)
def test_the_right_cause_comes_first(name: str, format: str, tmp_path: Path) -> None:
    fault, diagnosis = found_in(name, format, tmp_path)
    first = diagnosis.findings[0]
    assert first.cause == fault.cause
    assert first.where[0] == PLACES[name]
    assert PROOFS[name] in first.proof
    assert first.cure
    assert first.blame > 2 * SMALL_BLAME
    assert diagnosis.complete


@pytest.mark.parametrize("format", FORMATS)
def test_a_healthy_model_has_only_small_findings(format: str, tmp_path: Path) -> None:
    _, diagnosis = found_in("", format, tmp_path)
    assert [finding for finding in diagnosis.findings if finding.blame >= SMALL_BLAME] == []
    assert all(output.relative_error is not None and output.relative_error < 0.03 for output in diagnosis.outputs)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", ["uneven_channels", "mixed_outputs", "wrong_normalization", "swapped_layout"])
def test_nothing_else_is_blamed_as_much(name: str, format: str, tmp_path: Path) -> None:
    """One fault gives one large finding: what one cause explains is not explained again."""
    _, diagnosis = found_in(name, format, tmp_path)
    assert _large(diagnosis) == diagnosis.findings[:1]


def test_a_layers_own_noise_does_not_find_the_culprit(tmp_path: Path) -> None:
    """The tensor to blame has the best signal-to-noise ratio but the input's: blame is measured at the outputs."""
    _, diagnosis = found_in("uneven_channels", "tflite", tmp_path)
    inner = [layer for layer in diagnosis.layers if layer.op]
    by_noise = max(inner, key=lambda layer: layer.sqnr_db or 0.0)
    by_blame = max(inner, key=lambda layer: layer.output_error or 0.0)
    assert by_noise.tensor == by_blame.tensor == "stem"


def _large(diagnosis: Diagnosis) -> list[Finding]:
    return [finding for finding in diagnosis.findings if finding.blame >= SMALL_BLAME]
