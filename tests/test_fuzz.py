"""A short, fixed slice of `make fuzz`: damaged files end in one of edgekit's errors or in a result."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def test_damaged_model_files_end_in_a_clean_error_or_a_result() -> None:
    command = [sys.executable, str(TESTS / "fuzz.py"), "--mutations", "60", "--converted", "25", "--seed", "7000"]
    environment = {**os.environ, "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines[:-1]] == ["onnx", "tflite", "keras", "h5", "pt2", "pb"]
    assert all("'read'" in line and "RecipeError" in line for line in lines[:-1]), "both ends are reached"
