"""A build with a device: its rows beside the host's; without it, exit code 6 and the rest of the report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from machines import Sshd
from project import TARGET, edgekit, report_of

from edgekit.devices.ssh import PROGRAM
from edgekit.report.json import load

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def built(server: Sshd, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished build, done again with a board attached: only that is new."""
    folder = tmp_path_factory.mktemp("there") / "fashion"
    shutil.copytree(finished, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PROGRAM, server.program)
        done = edgekit("build", "-c", folder, "-o", folder / "out", "--device", f"{TARGET}={server.address}")
    assert done.code == 0, done.err
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = report_of(folder / "out")["targets"][0]["variants"]
    return found


def test_the_rows_are_the_device_s_with_the_host_s_beside_them(built: Path) -> None:
    for row in rows(built):
        assert row["latency"]["place"] == "device", row["name"]
        assert row["host_latency"]["place"] == "host"
        assert row["latency"]["samples_ns"] != row["host_latency"]["samples_ns"]
        assert row["latency"]["threads"] == 4  # the board's own, from its target file
        assert row["device"]["difference"] is not None
        assert row["speedup"] > 0


def test_every_form_of_the_report_says_where(built: Path) -> None:
    load(built / "out/report.json")
    markdown = (built / "out/report.md").read_text()
    assert "on the device" in markdown
    assert "on this host" in markdown
    page = (built / "out/report.html").read_text()
    assert "of this host" in page or "equal to this host" in page


def test_an_unplugged_device_is_exit_code_6_and_the_host_s_rows_stay(
    board: Sshd, finished: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "fashion"
    shutil.copytree(finished, folder)
    recipe = folder / "edgekit.toml"
    recipe.write_text(f'{recipe.read_text()}\n[devices]\n{TARGET} = "ssh://127.0.0.1:1"\n')
    done = edgekit("build", "-c", folder, "-o", folder / "out", "--json")
    assert done.code == 6, done.err
    report = json.loads(done.out)
    (failure,) = report["failures"]
    assert "nothing listens" in failure["message"]
    assert failure["targets"] == [TARGET]
    assert all(row["latency"]["place"] == "host" for row in rows(folder))


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("raspberry-pi-44=ssh://pi@board", "did you mean 'raspberry-pi-4'"),
        ("adb:1234", "fits none of this build's targets"),
        (f"{TARGET}=toaster:1", "no device of kind 'toaster'"),
        (f"{TARGET}=ssh://pi@board:port", "not a number"),
    ],
)
def test_a_device_that_cannot_be_meant_exits_2(finished: Path, tmp_path: Path, device: str, message: str) -> None:
    done = edgekit("build", "-c", finished, "-o", tmp_path, "--dry-run", "--device", device)
    assert done.code == 2
    assert message in done.err
