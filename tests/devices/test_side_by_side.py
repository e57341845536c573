"""A board and a phone measured in one build, side by side; a plug pulled midway costs that device only."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import adb_phone
import pytest
import web_models
from adb_phone import RUNS, Adb
from machines import Sshd
from project import command, edgekit, environment, fashion

from edgekit.devices import adb
from edgekit.devices.clocks import ROOT

pytestmark = pytest.mark.slow
PHONE, BOARD = "pixel-8", "raspberry-pi-4"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adb]:
    with adb_phone.adb(tmp_path_factory.mktemp("adb")) as running:
        yield running


@pytest.fixture
def recipe(board: Sshd, client: Adb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write a recipe without training, so that the devices take most of its time."""
    monkeypatch.setenv(adb.PROGRAM, client.program)
    phone = client.plug_in(tmp_path.name)
    devices = f'[devices]\n{BOARD} = "{board.address}"\n{PHONE} = "adb:{phone.serial}?python={sys.executable}"\n'
    folder = fashion(tmp_path / "fashion", "min_samples = 400\n[quantize]\nsearch = false\n" + devices)
    model = web_models.write_tflite(folder / "model.tflite", (1, 28, 28, 1))
    text = (folder / "edgekit.toml").read_text().replace("model.keras", model.name)
    (folder / "edgekit.toml").write_text(text.replace(f'names = ["{BOARD}"]', f'names = ["{BOARD}", "{PHONE}"]'))
    yield folder
    client.forget(phone)


def timed_on_device(report: dict[str, Any], target: str) -> bool:
    (found,) = [item for item in report["targets"] if item["target"] == target]
    return all(row["device"] and row["latency"]["place"] == "device" for row in found["variants"])


def test_both_are_measured_at_once_with_their_clocks_locked(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    governor = tmp_path / "root/sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
    governor.parent.mkdir(parents=True)
    governor.write_text("ondemand\n")
    monkeypatch.setenv(ROOT, str(tmp_path / "root"))
    arguments = ("--json", "-j", "1", "-t", BOARD, "-t", PHONE, "--lock-clocks")
    done = edgekit("build", "-c", recipe, "-o", tmp_path / "out", *arguments, timeout_s=500)
    report = json.loads(done.out)
    assert not report["failures"], done.err
    assert timed_on_device(report, BOARD)
    assert timed_on_device(report, PHONE)
    clocks = {row["device"]["clocks"] for item in report["targets"] for row in item["variants"]}
    assert "policy0 performance, before ondemand" in clocks
    lines = [line for line in done.err.splitlines() if " files on " in line]
    assert len(lines) >= 2, done.err


def test_a_plug_pulled_midway_keeps_the_other_s_rows(recipe: Path, client: Adb, tmp_path: Path) -> None:
    arguments = command("build", "-c", recipe, "-o", tmp_path / "out", "--json")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        end = time.monotonic() + 500
        while not any(RUNS.glob("run-*/agent-*.pid")) and process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        client.phones[-1].unplug()
        out, err = process.communicate(timeout=500)
    assert process.returncode == 6, err.decode()
    report = json.loads(out)
    (failure,) = report["failures"]
    assert failure["targets"] == [PHONE]
    assert "unplugged" in failure["message"]
    assert timed_on_device(report, BOARD)
