"""Clocks are locked on files that stand in for /sys, over a real ssh, and always put back."""

from __future__ import annotations

from pathlib import Path

import onnx.parser
import pytest
from machines import Sshd
from project import edgekit
from test_ssh import DOUBLE, opened

from edgekit.devices import open_device
from edgekit.devices.clocks import ROOT
from edgekit.devices.shell import ShellDevice
from edgekit.errors import ClocksError


@pytest.fixture
def governors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the governors of two clusters, ondemand and powersave."""
    files = []
    for policy, name in (("policy0", "ondemand"), ("policy4", "powersave")):
        file = tmp_path / "root/sys/devices/system/cpu/cpufreq" / policy / "scaling_governor"
        file.parent.mkdir(parents=True)
        file.write_text(f"{name}\n")
        files.append(file)
    monkeypatch.setenv(ROOT, str(tmp_path / "root"))
    return files


def names(governors: list[Path]) -> list[str]:
    return [file.read_text().strip() for file in governors]


def test_they_are_locked_until_the_run_ends(board: Sshd, governors: list[Path]) -> None:
    with opened(board) as device:
        before = device.lock_clocks()
        assert before == "policy0 performance, before ondemand; policy4 performance, before powersave"
        assert names(governors) == ["performance"] * 2
    assert names(governors) == ["ondemand", "powersave"]


def test_an_error_puts_them_back_too(board: Sshd, governors: list[Path]) -> None:
    def fail(device: ShellDevice) -> None:
        with device:
            device.lock_clocks()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail(opened(board))
    assert names(governors) == ["ondemand", "powersave"]


def test_what_a_lost_run_locked_is_put_back_before_the_next(board: Sshd, governors: list[Path]) -> None:
    with opened(board) as device:
        device.lock_clocks()
        script = Path(device.run_folder, "restore").read_text()
    for file in governors:
        file.write_text("performance\n")
    left = board.runs / "run-left"
    left.mkdir()
    (left / "restore").write_text(script)
    with opened(board):
        assert names(governors) == ["ondemand", "powersave"]


def test_one_that_may_not_be_set_is_refused_and_the_others_are_put_back(board: Sshd, governors: list[Path]) -> None:
    governors[1].unlink()
    governors[1].symlink_to("/proc/version")  # which not even root may write
    with pytest.raises(ClocksError, match="does not let you lock its clocks") as caught, opened(board) as device:
        device.lock_clocks()
    assert "sudo without a password" in caught.value.hint
    assert names(governors[:1]) == ["ondemand"]


def test_a_board_without_any_says_so(board: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOT, str(tmp_path))
    with pytest.raises(ClocksError, match="no clocks that can be locked"), opened(board) as device:
        device.lock_clocks()


def test_a_jetson_s_own_program_stores_and_restores(board: Sshd, governors: list[Path], tmp_path: Path) -> None:
    program = board.folder / "bin" / "jetson_clocks"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\necho "$1" >> {tmp_path}/said\n')
    program.chmod(0o755)
    try:
        with opened(board) as device:
            assert device.lock_clocks() == "jetson_clocks, as stored before"
        assert (tmp_path / "said").read_text().split("\n") == ["--store", "", "--restore", ""]
    finally:
        program.unlink()
    assert names(governors) == ["ondemand", "powersave"]


def test_the_command_locks_says_so_and_puts_back(board: Sshd, governors: list[Path], tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(DOUBLE), model)
    done = edgekit("profile", model, "--device", board.address, "--lock-clocks", "--seconds", "0.1")
    assert done.code == 0, done.err
    assert "policy0 performance, before ondemand" in done.out
    assert names(governors) == ["ondemand", "powersave"]


@pytest.mark.parametrize("name", ["local", "browser"])
def test_what_is_no_board_is_left_alone(name: str) -> None:
    with pytest.raises(ClocksError, match=r"left alone|cannot lock"):
        open_device(name).lock_clocks()
