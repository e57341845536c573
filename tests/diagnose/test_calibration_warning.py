"""Calibration unlike the test samples is told with its figure, from the inputs alone; like samples are left alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import faults
import numpy as np
import pytest
from diagnosing import PREPROCESS
from faults import Fault, Sample
from project import DETECTOR, fashion

from edgekit import build as builder
from edgekit import pipeline, recipe, target
from edgekit.plan import LIKENESS, plan
from edgekit.quantize import likeness
from edgekit.steps import File

FORMATS = ("tflite", "onnx")


def written(samples: list[Sample], path: Path) -> dict[str, Any]:
    np.savez(path, allow_pickle=False, **{name: np.concatenate([s[name] for s in samples]) for name in samples[0]})
    return {"kind": "npz", "path": path, "preprocess": PREPROCESS}


def notes(fault: Fault, folder: Path) -> list[str]:
    found: list[str] = likeness.run(
        out=folder, progress=lambda done, text: None, model=fault.float_file, format=fault.format,
        calibration=written(fault.calibration, folder / "calibration.npz"), samples=128,
        test=written(fault.evaluation, folder / "test.npz"),
    )["notes"]  # fmt: skip
    return found


@pytest.mark.parametrize("format", FORMATS)
def test_wrong_normalization_is_told_at_the_input(format: str, tmp_path: Path) -> None:
    [note] = notes(faults.wrong_normalization(format, tmp_path), tmp_path)
    assert "% of the values of tensor 'image' on the test samples" in note
    assert float(note.partition("%")[0]) > 50
    assert "preprocessed alike" in note


@pytest.mark.parametrize("format", FORMATS)
def test_images_of_another_kind_are_told_where_they_leave_the_ranges(format: str, tmp_path: Path) -> None:
    fault = faults.few_calibration_samples(format, tmp_path)
    [note] = notes(replace(fault, calibration=faults.plain(format, 40)), tmp_path)
    assert "lie well outside the range" in note
    assert "'image'" not in note  # its values are the same; what the network makes of them is not


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("build", [faults.healthy, faults.uneven_channels, faults.wide_hard_swish])
def test_like_samples_are_left_alone(build: Any, format: str, tmp_path: Path) -> None:
    assert notes(build(format, tmp_path), tmp_path) == []


def test_nothing_is_decided_on_test_samples_and_the_warning_sees_no_label() -> None:
    """Of all steps of a build, only scores read the test samples with labels; the comparison reads them without."""
    prepared = builder.prepare(DETECTOR, {}, [])
    test, labels = prepared.recipe.data.test, prepared.recipe.data.test_labels
    assert labels is not None
    readers = {name for name, step in prepared.plan.steps.items() if test in _files(step.arguments)}
    assert {name for name in readers if not name.startswith("score-")} == {LIKENESS}
    assert labels not in _files(prepared.plan.steps[LIKENESS].arguments)
    needed_by = {name for name, step in prepared.plan.steps.items() if LIKENESS in pipeline.needs(step)}
    assert needed_by == set()


def _files(value: Any) -> set[Path]:
    if isinstance(value, File):
        return {value.path}
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return {path for item in items for path in _files(item)}


def test_a_model_that_is_quantized_already_sets_no_ranges(tmp_path: Path) -> None:
    wanted = recipe.load(fashion(tmp_path / "r"))
    planned = plan(wanted, [target.load("raspberry-pi-4")], "tflite", {}, quantized=True)
    assert planned.groups
    assert LIKENESS not in planned.steps
