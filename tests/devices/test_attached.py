"""``edgekit devices``: what is there, what it runs, and what to do about what is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from machines import Sshd
from project import edgekit

from edgekit.runtimes.facts import power_mode, slowed_by


def test_devices_are_listed_with_runtimes_or_a_cure(board: Sshd, tmp_path: Path) -> None:
    done = edgekit("devices", board.address, "ssh://127.0.0.1:1", "-c", tmp_path, "--json")
    assert done.code == 0, done.err
    found = {item["address"]: item for item in json.loads(done.out)}
    for address in ("local", board.address):
        assert found[address]["ready"], found[address]
        assert any(name.startswith("ai-edge-litert 2.") for name in found[address]["runtimes"])
        assert "cores" in found[address]["machine"]
    gone = found["ssh://127.0.0.1:1"]
    assert not gone["ready"]
    assert gone["problem"] == "nothing listens there"
    assert "enable --now ssh" in gone["cure"]


def test_a_device_without_a_runtime_comes_with_the_command_that_installs_it(board: Sshd, tmp_path: Path) -> None:
    python = tmp_path / "python3"
    python.write_text('#!/bin/sh\nexec /usr/bin/python3 -S -E "$@"\n')  # -S: without any installed package
    python.chmod(0o755)
    address = f"ssh://127.0.0.1:{board.port}?python={python}"
    found = {item["address"]: item for item in json.loads(edgekit("devices", address, "--json").out)}
    assert found[address]["problem"] == "nothing there executes artifacts"
    assert "~/edgekit/bin/pip install ai-edge-litert" in found[address]["cure"]


@pytest.mark.parametrize(
    ("said", "slowed"),
    [
        ("throttled=0x0\n", []),
        ("throttled=0x50005\n", ["under-voltage", "throttled"]),  # and since boot: bits 16 and 18
        ("throttled=0x50000\n", []),  # was slow once, is not now
        ("throttled=0xa\n", ["frequency capped", "soft temperature limit"]),
        ("", []),
        ("VCHI initialization failed\n", []),
    ],
)
def test_what_slows_a_raspberry_pi_down_now(said: str, slowed: list[str]) -> None:
    assert slowed_by(said) == slowed


def test_the_power_mode_of_a_jetson() -> None:
    assert power_mode("NV Power Mode: MAXN\n0\n") == "MAXN"
    assert power_mode("") == ""
