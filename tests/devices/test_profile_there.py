"""``edgekit profile --device``: checked against this host first, then timed there; a plug pulled midway."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import machines
import numpy as np
import onnx.parser
import pytest
from machines import Sshd
from project import command, edgekit, environment

from edgekit.devices.ssh import PROGRAM
from edgekit.errors import StageError
from edgekit.profile.latency import Job
from edgekit.profile.reference import with_reference
from edgekit.profile.stage import on_device
from edgekit.report.schema import DeviceRun

NOTICED_S = 15.0
SETTINGS = {"samples": 10, "seconds": 0.01, "limit_s": 2, "seed": 0, "warmup_s": 0.0, "ops_runs": 0}
GRAPH = '<ir_version: 8, opset_import: ["" : 18]> g (float[1,64] x) => (float[1,64] y) {{ y = {op}(x, x) }}'


def onnx_file(folder: Path, op: str) -> Path:
    path = folder / f"{op}.onnx"
    onnx.save(onnx.parser.parse_model(GRAPH.format(op=op)), path)
    return path


def wrapped_python(folder: Path, line: str) -> Path:
    """Write a ``python3`` that runs one line of shell first."""
    python = folder / "python3"
    python.write_text(f'#!/bin/sh\n{line}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    return python


def job(path: Path, expected: Path | None = None) -> dict[str, Any]:
    return {"name": path.stem, "path": path, "format": "onnx", "expected": expected}


def run(board: Sshd, out: Path, *jobs: dict[str, Any], python: Path | None = None) -> dict[str, Any]:
    address = f"ssh://127.0.0.1:{board.port}?python={python or board.python}"
    return on_device(
        out=out, progress=lambda done, what: None, jobs=list(jobs), inputs=None, threads=1, device=address,
        settings=SETTINGS,
    )  # fmt: skip


def test_the_command_line_prints_checked_device_figures(board: Sshd, tmp_path: Path) -> None:
    add, mul = onnx_file(tmp_path, "Add"), onnx_file(tmp_path, "Mul")
    done = edgekit("profile", add, mul, "--device", board.address, "--seconds", "0.1", "--json")
    assert done.code == 0, done.err
    for text in json.loads(done.out).values():
        found = DeviceRun.model_validate(text)
        assert found.device == f"ssh://127.0.0.1:{board.port}"
        assert found.difference == 0
        assert found.latency is not None
        assert found.latency.place == "device"
        assert found.latency.min_ms > 0
        assert found.before.load is not None


def test_a_wrong_answer_is_not_timed_and_the_others_are(board: Sshd, tmp_path: Path) -> None:
    add, mul = onnx_file(tmp_path, "Add"), onnx_file(tmp_path, "Mul")
    right = with_reference(Job("Mul", mul, "onnx"), None, 0, tmp_path / "reference")
    found = on_device(
        out=tmp_path, progress=lambda done, what: None, inputs=right.inputs, threads=1,
        jobs=[job(add, right.expected), job(mul, right.expected)], device=board.address, settings=SETTINGS,
    )  # fmt: skip
    assert list(found["runs"]) == ["Mul"]
    assert re.search("Add: output y is off by", found["failed"]["Add"])


def test_one_file_that_crashes_there_leaves_the_others(board: Sshd, tmp_path: Path) -> None:
    add, mul = onnx_file(tmp_path, "Add"), onnx_file(tmp_path, "Mul")
    # The second agent to be started dies as for lack of memory.
    count = tmp_path / "agents"
    python = wrapped_python(
        tmp_path,
        f'case "$1" in *agent.py) echo >> {count}; [ $(wc -l < {count}) = 2 ] && kill -9 $$;; esac',
    )
    found = run(board, tmp_path, job(add), job(mul), python=python)
    assert list(found["runs"]) == ["Add"]
    assert "killed by SIGKILL" in found["failed"]["Mul"]


def test_where_every_file_fails_the_first_error_is_raised(board: Sshd, tmp_path: Path) -> None:
    add = onnx_file(tmp_path, "Add")
    np.savez(tmp_path / "wrong.npz", y=np.zeros((1, 64), np.float32))
    with pytest.raises(StageError, match="off by"):
        run(board, tmp_path, job(add, tmp_path / "wrong.npz"))


def test_an_emulated_device_is_checked_but_has_no_times(board: Sshd, tmp_path: Path) -> None:
    python = wrapped_python(tmp_path, "export EDGEKIT_EMULATED=1")
    add = onnx_file(tmp_path, "Add")
    found = DeviceRun.model_validate(run(board, tmp_path, job(add), python=python)["runs"]["Add"])
    assert found.emulated
    assert found.difference == 0
    assert found.latency is None
    shown = edgekit("profile", add, "--device", f"ssh://127.0.0.1:{board.port}?python={python}")
    assert shown.code == 0, shown.err
    assert "emulated" in shown.out
    assert not re.search(r"\bms\b", shown.out)


def test_pulling_the_plug_midway_exits_6_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add = onnx_file(tmp_path, "Add")
    with machines.sshd(tmp_path / "board", {"XDG_CACHE_HOME": f"{tmp_path}/cache"}) as board:
        monkeypatch.setenv(PROGRAM, board.program)
        runs = tmp_path / "cache" / "edgekit"
        arguments = command("profile", add, "--device", board.address, "--seconds", "30")
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
            end = time.monotonic() + 60
            while not any(runs.glob("run-*/*.pid")) and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(2.0)
            board.switch_off()
            start = time.monotonic()
            _, err = process.communicate(timeout=60)
            assert time.monotonic() - start < NOTICED_S
        assert process.returncode == 6, err.decode()
        assert "the connection was lost" in err.decode()
        assert "Run this again" in err.decode()


def test_killing_the_command_leaves_nothing_on_the_device(board: Sshd, tmp_path: Path) -> None:
    arguments = command("profile", onnx_file(tmp_path, "Add"), "--device", board.address, "--seconds", "30")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        end = time.monotonic() + 60
        while not any(board.runs.glob("run-*/*agent.py")) and time.monotonic() < end:
            time.sleep(0.05)
        process.kill()
        process.communicate()
    end = time.monotonic() + 30  # the device waits 15 s for a connection to come back
    while (board.sessions() or any(board.runs.glob("run-*"))) and time.monotonic() < end:
        time.sleep(0.1)
    assert not board.sessions()
    assert not any(board.runs.glob("run-*"))
    assert os.path.isdir(board.runs)
