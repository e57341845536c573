"""The daemon of real phones on loopback, and a client with a key and a server of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import machines

STAND_INS = Path(os.environ.get("EDGEKIT_STAND_INS", "/opt/edgekit-stand-ins"))

_CLEANED_S = 40.0
RUNS = Path("/data/local/tmp/edgekit")  # the one place on a phone where a shell may write


@dataclass
class Phone:
    """One running adbd."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def serial(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the daemon, anew after ``unplug``."""
        environment = {
            "ADBD_PORT": str(self.port), "ADBD_KEYS": str(self.folder / "keys"), "HOME": str(self.folder),
            "PATH": os.environ["PATH"],
        }  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [STAND_INS / "adbd/adbd"], env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def unplug(self) -> None:
        """End the daemon at once; what runs on the phone lives on."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def freeze(self, stop: bool = True) -> None:
        """Stop the daemon: its connections stay, nothing answers, as when a phone leaves the wireless network."""
        os.kill(self.process.pid, signal.SIGSTOP if stop else signal.SIGCONT)


@dataclass
class Adb:
    """The client side: a home with its own key, a server on a port of its own, and phones to connect to."""

    folder: Path
    port: int
    phones: list[Phone] = field(default_factory=list)

    @property
    def program(self) -> str:
        return f"env HOME={self.folder} ANDROID_ADB_SERVER_PORT={self.port} adb"

    def run(self, *words: str) -> str:
        done = subprocess.run([*self.program.split(), *words], capture_output=True, text=True, timeout=30)
        return done.stdout + done.stderr

    def plug_in(self, name: str, *, trusted: bool = True) -> Phone:
        """Start a daemon, connect to it, and wait until adb knows its state."""
        folder = self.folder / name
        folder.mkdir()
        keys = folder / "keys"
        keys.write_text((self.folder / ".android/adbkey.pub").read_text() if trusted else "")
        phone = Phone(folder, machines.free_port())
        phone.start()
        self.phones.append(phone)
        wanted = "device" if trusted else "unauthorized"
        end = time.monotonic() + 20
        while time.monotonic() < end:
            self.run("connect", phone.serial)
            if f"{phone.serial}\t{wanted}" in self.run("devices"):
                return phone
            time.sleep(0.1)
        raise TimeoutError(f"{phone.serial} is not {wanted}: {self.run('devices')}")

    def forget(self, phone: Phone) -> None:
        if phone.process.poll() is None:
            phone.unplug()
        self.run("disconnect", phone.serial)
        self.phones.remove(phone)


@contextmanager
def adb(folder: Path) -> Iterator[Adb]:
    """Run an adb server of its own."""
    machines.require(shutil.which("adb"), "needs adb: apt-get install adb")
    machines.require_root()
    daemon = STAND_INS / "adbd/adbd"
    machines.require(daemon.exists(), f"needs adbd: tests/devices/stand_ins/adbd {daemon.parent}")
    made = [place for place in (RUNS, *RUNS.parents) if not place.exists()]
    RUNS.mkdir(parents=True, exist_ok=True)
    client = Adb(folder, machines.free_port())
    (folder / ".android").mkdir(parents=True)
    subprocess.run(["adb", "keygen", folder / ".android/adbkey"], check=True, capture_output=True)
    client.run("start-server")
    try:
        yield client
    finally:
        for phone in list(client.phones):
            client.forget(phone)
        client.run("kill-server")
        _emptied(RUNS)
        for place in made:
            place.rmdir()


def _emptied(folder: Path) -> None:
    """Wait until what a pulled plug left running has cleaned up after itself, which it does after 15 s."""
    end = time.monotonic() + _CLEANED_S
    while any(folder.iterdir()) and time.monotonic() < end:
        time.sleep(0.1)
