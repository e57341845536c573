"""What starting edgekit loads: nothing heavy for help, no TensorFlow for a plan."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("numpy", "tensorflow", "keras", "onnx", "onnxruntime", "ai_edge_litert", "pydantic", "h5py", "PIL")


def _loaded_by(code: str, record: Path) -> set[str]:
    """Run ``code`` in a fresh interpreter, which must end well, and return the libraries it had imported."""
    script = f"""
import json, pathlib, sys
try:
    {code}
except SystemExit as stop:
    assert not stop.code, stop.code
finally:
    pathlib.Path({str(record)!r}).write_text(json.dumps(list(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(json.loads(record.read_text()))


def _cli(*arguments: str) -> str:
    return f"from edgekit.cli import main; sys.argv = {['edgekit', *arguments]!r}; sys.exit(main())"


@pytest.mark.parametrize("code", ["import edgekit.cli", _cli("--help")], ids=["import", "help"])
def test_help_loads_no_heavy_library(code: str, tmp_path: Path) -> None:
    heavy = _loaded_by(code, tmp_path / "modules.json") & set(HEAVY)
    assert not heavy


def test_help_of_a_command_loads_no_heavy_library(tmp_path: Path) -> None:
    heavy = _loaded_by(_cli("build", "--help"), tmp_path / "modules.json") & set(HEAVY)
    assert heavy <= {"pydantic"}  # typer itself loads it to read a command's options


def test_dry_run_does_not_load_tensorflow(tmp_path: Path) -> None:
    recipe = ROOT / "sample_models/digits_detector/edgekit.toml"
    code = _cli("build", "-c", str(recipe), "-o", str(tmp_path / "out"), "--dry-run")
    loaded = _loaded_by(code, tmp_path / "modules.json")
    assert "edgekit.recipe" in loaded  # it did read the recipe
    slow = loaded & {"tensorflow", "keras"}
    assert not slow
