"""Real stand-ins for devices: an sshd of our own on loopback; and when a test may be skipped."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = "/usr/sbin/sshd"


def require(condition: object, reason: str) -> None:
    """Skip the test where its machine cannot be had; in continuous integration that is a failure."""
    if condition:
        return
    if os.environ.get("CI"):
        pytest.fail(f"skipped in CI: {reason}")
    pytest.skip(reason)


def require_root() -> None:
    require(os.geteuid() == 0, "needs root, to mount and to change the root folder")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Sshd:
    """A running sshd and the ssh configuration with which it is reached as ``board``."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    python: str = sys.executable

    @property
    def address(self) -> str:
        return f"ssh://127.0.0.1:{self.port}?python={self.python}"

    @property
    def program(self) -> str:
        return f"ssh -F {self.folder}/ssh_config"

    @property
    def runs(self) -> Path:
        """Where edgekit's folders lie on the device."""
        return self.folder / "cache" / "edgekit"

    def sessions(self) -> list[int]:
        """Return the server processes of the open connections."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def kill_sessions(self) -> None:
        """Break every connection as a device does that is switched off."""
        _signal_children(self.process, signal.SIGKILL)

    def switch_off(self) -> None:
        """End the server and its connections; what its users started lives on, as behind a broken cable."""
        self.process.send_signal(signal.SIGSTOP)  # so that it takes no new one meanwhile
        _signal_children(self.process, signal.SIGKILL)
        self.process.kill()
        self.process.wait()

    def freeze(self, stop: bool = True) -> None:
        """Stop the server processes, as a device that hangs: connections stay, nothing answers."""
        number = signal.SIGSTOP if stop else signal.SIGCONT
        self.process.send_signal(number)
        _signal_children(self.process, number)


@contextmanager
def sshd(folder: Path, environment: dict[str, str], extra: str = "") -> Iterator[Sshd]:
    """Run a real sshd on loopback for this user alone; ``environment`` is what its sessions see."""
    require(shutil.which(SSHD) and shutil.which("ssh"), "needs openssh-server and openssh-client")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("id", "host_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    shutil.copy(folder / "id.pub", folder / "authorized_keys")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    port = free_port()
    variables = " ".join(f'"{name}={value}"' for name, value in environment.items())
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\n"
        f"PidFile {folder}/pid\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"SetEnv {variables}\n{extra}"
    )
    public = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}")
    (folder / "ssh_config").write_text(
        f"IdentityFile {folder}/id\nIdentitiesOnly yes\nUserKnownHostsFile {folder}/known_hosts\n"
        "GlobalKnownHostsFile /dev/null\n"
    )
    process = subprocess.Popen([SSHD, "-D", "-f", str(folder / "sshd_config"), "-E", str(folder / "log")])
    try:
        _wait_for_port(port)
        yield Sshd(folder, port, process)
    finally:
        _signal_children(process, signal.SIGKILL)
        process.kill()
        process.wait()


def _signal_children(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal what children a process has; one that ends by itself meanwhile is no error."""
    subprocess.run(["pkill", f"-{number.value}", "-P", str(process.pid)], check=False)


def _wait_for_port(port: int, within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port}")
