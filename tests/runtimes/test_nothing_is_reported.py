"""ONNX Runtime reports to its maker unless told not to: nothing that edgekit runs lets it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from edgekit.bundle.runners import edgekit_run
from edgekit.runtimes import agent

MODEL = """
<ir_version: 8, opset_import: ["": 17]>
relu (float[1,4] x) => (float[1,4] y) { y = Relu(x) }
"""
STARTED_BY = {
    "the package": "import edgekit, onnxruntime; onnxruntime.InferenceSession(model)",
    "the agent on a device": f"import runpy; runpy.run_path({agent.__file__!r}); "
    "import onnxruntime; onnxruntime.InferenceSession(model)",
    "the program beside an artifact": f"import runpy; run = runpy.run_path({edgekit_run.__file__!r}); "
    "run['Ort'](model, {'outputs': []}, 1)",
}


@pytest.mark.parametrize("start", STARTED_BY.values(), ids=STARTED_BY)
def test_onnxruntime_leaves_no_identity_behind(start: str, tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(MODEL), tmp_path / "model.onnx")
    places = {name: str(tmp_path / name) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    for place in places.values():
        Path(place).mkdir()
    known = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    code = f"import sys; model = sys.argv[1]; {start}"
    command = [sys.executable, "-c", code, str(tmp_path / "model.onnx")]
    subprocess.run(command, check=True, env=known | places, cwd=tmp_path, timeout=60)
    left = [path for place in places.values() for path in Path(place).rglob("*")]
    assert left == []
