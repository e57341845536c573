"""``edgekit devices``: what is there, what it runs, and what to do about what is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from machines import Sshd
from project import edgekit

from edgekit.runtimes.facts import power_mode, slowed_by, tegrastats


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


ORIN_AGX = (
    "05-09-2026 18:42:06 RAM 18207/62841MB (lfb 466x4MB) SWAP 86/31420MB (cached 0MB) CPU [14%@2188,5%@2112] "
    "EMC_FREQ 3%@2133 GR3D_FREQ 0%@[0,0] NVDLA0 off APE 174 cpu@52.562C tj@52.562C VDD_GPU_SOC 2412mW/2412mW "
    "VDD_CPU_CV 1607mW/1607mW VIN_SYS_5V0 4707mW/4707mW"
)
ORIN_NANO = (
    "11-15-2024 08:38:09 RAM 6185/7620MB (lfb 8x2MB) SWAP 851/3810MB (cached 1MB) CPU [15%@729,11%@729,14%@729,13%@729,"
    "11%@729,8%@729] EMC_FREQ 43%@2133 GR3D_FREQ 63%@[621] NVDEC off NVJPG off NVJPG1 off VIC off OFA off APE 200 "
    "cpu@53.968C soc2@52.437C soc0@50.75C gpu@53.343C tj@53.968C soc1@51.656C VDD_IN 12479mW/12479mW "
    "VDD_CPU_GPU_CV 4667mW/4667mW VDD_SOC 2817mW/2817mW"
)
JETPACK_4 = "GR3D_FREQ 0% GPU@22C POM_5V_IN 2591/2591"  # what was quoted of it


@pytest.mark.parametrize(
    ("line", "power_w", "hottest_c"),
    [
        (ORIN_AGX, 2.412 + 1.607 + 4.707, 52.562),
        (ORIN_NANO, 12.479, 53.968),  # the other rails are part of it
        (JETPACK_4, 2.591, 22.0),
        ("cpu@40C pmic@-256C", None, 40.0),  # a sensor without power
        ("", None, None),
    ],
)
def test_the_power_and_heat_of_jetsons_as_recorded(line: str, power_w: float | None, hottest_c: float | None) -> None:
    found = tegrastats(line)
    assert found == (pytest.approx(power_w), hottest_c)


def test_the_power_mode_of_a_jetson() -> None:
    assert power_mode("NV Power Mode: MAXN\n0\n") == "MAXN"
    assert power_mode("") == ""
