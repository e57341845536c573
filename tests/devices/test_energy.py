"""The energy of one inference, from what a Jetson's tegrastats was recorded to print."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import fake_trtexec
import onnx.parser
import pytest
from machines import Sshd
from test_attached import ORIN_NANO

from edgekit.profile.stage import on_device
from edgekit.report.schema import DeviceRun

WATTS = 12.479  # VDD_IN of the line
GRAPH = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,64] x) => (float[1,64] y) { y = Relu(x) }'
# The first readings at once: what is read does not depend on how busy the machine of the test is.
METER = """#!/bin/sh
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo '{line}'; done
while sleep 0.1; do echo '{line}'; done
"""


@pytest.fixture
def jetson(board: Sshd) -> Iterator[Sshd]:
    programs = {
        "tegrastats": METER.format(line=ORIN_NANO),
        "trtexec": f'#!/bin/sh\nexec {sys.executable} {fake_trtexec.__file__} "$@"\n',
    }
    folder = board.folder / "bin"
    folder.mkdir(exist_ok=True)
    for name, script in programs.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    yield board
    for name in programs:
        (folder / name).unlink()


def profiled(device: str, tmp_path: Path) -> DeviceRun:
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(GRAPH), path)
    job = {"name": "model", "path": path, "format": "onnx", "expected": None}
    settings = {"samples": 10, "seconds": 0.1, "limit_s": 2, "rounds": 1, "energy_s": 2.0, "ops_runs": 0, "seed": 0}
    found = on_device(
        out=tmp_path / "out", progress=lambda done, what: None, jobs=[job], inputs=None, threads=1, device=device,
        settings=settings,
    )  # fmt: skip
    return DeviceRun.model_validate(found["runs"]["model"])


def test_an_agent_s_calls_share_the_board_s_power(jetson: Sshd, tmp_path: Path) -> None:
    run = profiled(jetson.address, tmp_path)
    assert run.before.power_w == WATTS
    assert run.latency is not None
    assert run.latency.energy_mj is not None
    fastest_mj = WATTS * run.latency.min_ms
    assert 0.5 * fastest_mj < run.latency.energy_mj < 200 * fastest_mj  # a busy machine has slow calls


def test_tensorrt_s_calls_count_by_how_far_apart_they_start(jetson: Sshd, tmp_path: Path) -> None:
    run = profiled(f"{jetson.address}&runtime=tensorrt", tmp_path)
    assert run.latency is not None
    assert run.latency.energy_mj == pytest.approx(WATTS * 1.0)  # the stand-in starts one each millisecond


def test_a_board_without_a_rail_has_no_energy(board: Sshd, tmp_path: Path) -> None:
    run = profiled(board.address, tmp_path)
    assert run.latency is not None
    assert run.latency.energy_mj is None
