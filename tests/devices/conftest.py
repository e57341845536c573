"""A board on loopback: one sshd for all tests, looked after by each."""

from __future__ import annotations

from collections.abc import Iterator

import machines
import pytest
from machines import Sshd

from edgekit.devices.ssh import PROGRAM


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("sshd")
    with machines.sshd(
        folder, {"XDG_CACHE_HOME": str(folder / "cache"), "PATH": f"{folder}/bin:/usr/bin:/bin"}
    ) as running:
        yield running


@pytest.fixture
def board(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sshd]:
    monkeypatch.setenv(PROGRAM, server.program)
    yield server
    assert not list(server.runs.glob("run-*")), "something was left on the device"
