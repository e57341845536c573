"""One ONNX network, channels first: in one build it becomes a TFLite and an ONNX file, both scored, layouts written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx_networks
import pytest
from project import edgekit, report_of

from edgekit.convert import onnx_converter
from edgekit.convert.package import read

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(onnx_converter.missing()) and "CI" not in os.environ, reason=f"needs: {onnx_converter.COMMAND}"
    ),
]
RECIPE = """
[model]
path = "model.onnx"
[data]
kind = "npz"
test = "test.npz"
calibration = "calibration.npz"
[preprocess]
mean = [0.1, 0.2, 0.3]
[budget]
accuracy_drop = 90.0
[profile]
min_seconds = 0.1
[prune]
enabled = false
[targets]
names = ["pixel-8", "jetson-orin-nano"]
"""


def test_one_build_makes_both_formats_of_it(tmp_path: Path) -> None:
    onnx_networks.segmenter(tmp_path / "model.onnx")
    random = np.random.default_rng(0)
    first = random.normal(size=(12, 3, 32, 48)).astype(np.float32)
    np.savez(tmp_path / "test.npz", x=first)
    np.savez(tmp_path / "calibration.npz", x=random.normal(size=(8, 32, 48, 3)).astype(np.float32))  # either way
    (tmp_path / "edgekit.toml").write_text(RECIPE)
    done = edgekit("build", "--time-budget", "3s", cwd=tmp_path)  # as somebody types it: every path is relative
    assert done.code == 0, done.err
    out = tmp_path / "edgekit-build"
    report = report_of(out)
    targets = {target["target"]: target for target in report["targets"]}
    for name, format in (("pixel-8", "tflite"), ("jetson-orin-nano", "onnx")):
        rows = {row["name"]: row for row in targets[name]["variants"]}
        assert {"float32", "int8"} <= rows.keys()
        assert ("float16" in rows) == (format == "tflite")
        assert {row["format"] for row in rows.values()} == {format}
        assert all(row["accuracy"]["samples"] == 12 for row in rows.values())
    (said,) = [line for line in report["warnings"] if "NHWC" in line]
    assert "take 'image' as NHWC" in said

    bundle = out / targets["pixel-8"]["bundle"]
    manifest = json.loads((bundle / "model.json").read_text())
    (image,) = manifest["inputs"]
    assert (image["shape"], image["layout"], image["source_layout"]) == ([1, 32, 48, 3], "NHWC", "NCHW")
    artifact = bundle / manifest["file"]
    assert read(artifact, "tflite")["layouts"] == {"image": ["NCHW", "NHWC"]}
    assert edgekit("verify", artifact).code == 0
    assert "NHWC; the source model's is NCHW" in artifact.with_name(f"{artifact.name}.card.md").read_text()

    # samples in the .onnx file's order, as they are, go into the other order's file
    scored = edgekit("evaluate", artifact, "-c", tmp_path, "--json")
    assert scored.code == 0, scored.err
    again = edgekit("build", "-c", tmp_path, "-o", out, "--time-budget", "3s")
    assert again.code == 0, again.err
