"""One build, three devices at once: an ARM64 board over ssh, a phone over adb, a browser page."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adb_phone
import arm
import pytest
from adb_phone import Adb, Phone
from machines import Sshd, require
from project import NO_PRUNE, begin, edgekit, fashion

from edgekit.devices import adb, ssh

pytestmark = pytest.mark.slow
PHONE, PAGE, BOARD = "pixel-8", "browser", "raspberry-pi-4"


@dataclass
class Bench:
    """What is connected, and the build that used it."""

    board: Sshd
    phone: Phone
    client: Adb
    folder: Path
    report: dict[str, Any]

    def build(self, *arguments: object) -> tuple[int, dict[str, Any], str]:
        done = edgekit("build", "-c", self.folder, "-o", self.folder / "out", "--json", *arguments, timeout_s=900)
        return done.code, json.loads(done.out) if done.out else {}, done.err


@pytest.fixture(scope="module")
def bench(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    for module in ("playwright", "edgekit_web_assets"):
        require(importlib.util.find_spec(module), f"{module} is not installed: make web")
    with ExitStack() as stack:
        board = stack.enter_context(arm.raspberry_pi(tmp_path_factory.mktemp("pi")))
        client = stack.enter_context(adb_phone.adb(tmp_path_factory.mktemp("adb")))
        phone = client.plug_in("pixel")
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv(ssh.PROGRAM, board.program)
        patch.setenv(adb.PROGRAM, client.program)
        devices = (
            f'[devices]\n{BOARD} = "{board.address}"\n{PHONE} = "adb:{phone.serial}?python={sys.executable}"\n'
            f'{PAGE} = "browser"\n'
        )
        folder = fashion(tmp_path_factory.mktemp("three") / "fashion", NO_PRUNE + devices)
        begin(finished, folder / "out")
        recipe = folder / "edgekit.toml"
        names = f'names = ["{BOARD}", "{PHONE}", "{PAGE}"]'
        recipe.write_text(recipe.read_text().replace(f'names = ["{BOARD}"]', names))
        bench = Bench(board, phone, client, folder, {})
        code, bench.report, err = bench.build()
        assert code == 0, err
        yield bench


def rows(report: dict[str, Any], target: str) -> list[dict[str, Any]]:
    found = [item for item in report["targets"] if item["target"].split(" ")[0] == target]
    assert found, target
    return [variant for item in found for variant in item["variants"]]


@pytest.mark.parametrize("target", [BOARD, PHONE, PAGE])
def test_every_row_computes_on_its_device_what_it_computes_here(bench: Bench, target: str) -> None:
    for row in rows(bench.report, target):
        assert row["device"]["difference"] is not None, row["name"]
        assert row["cause"] == "" or row["status"] == "dropped", row["cause"]


def test_phone_and_page_have_times_of_their_own(bench: Bench) -> None:
    for target in (PHONE, PAGE):
        for row in rows(bench.report, target):
            assert row["latency"]["place"] == "device"
            assert row["host_latency"]["place"] == "host"


def test_the_emulated_board_has_none(bench: Bench) -> None:
    for row in rows(bench.report, BOARD):
        assert row["device"]["emulated"]
        assert row["device"]["latency"] is None
        assert row["latency"]["place"] == "host"


def test_one_plug_pulled_costs_that_device_only(bench: Bench) -> None:
    bench.client.forget(bench.phone)
    # Another thread count is another measurement: the store has none of it.
    code, report, err = bench.build("-t", PHONE, "-t", BOARD, "--device", f"{PHONE}=adb:{bench.phone.serial}")
    assert code == 6, err
    (failure,) = report["failures"]
    assert failure["targets"] == [PHONE]
    assert "no such device" in failure["message"]
    assert all(row["device"] for row in rows(report, BOARD))
    assert all(row["latency"]["place"] == "host" for row in rows(report, PHONE))
