"""A phone over adb, with the user's own adb program: its keys and its server hold.

``EDGEKIT_ADB`` replaces the program. adb ends with exit code 0 when the phone is unplugged in the middle of a
command (29.0.6 and 34.0.1 alike), so only the last line that the shell there writes counts.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs

from edgekit.devices.benchmark import ACCELERATORS
from edgekit.devices.connection import last_words
from edgekit.devices.pulse import SILENCE_S, SILENT
from edgekit.devices.shell import ShellDevice
from edgekit.errors import (
    DependencyError,
    DeviceError,
    DroppedError,
    RecipeError,
    SeveralDevicesError,
    UnauthorizedError,
    UnreachableError,
)  # fmt: skip

PROGRAM = "EDGEKIT_ADB"
_LIST_S = 20.0
_BENCHMARK = "benchmark_model=PATH/OF/THE/PROGRAM/HERE"

# adb's own words; a state behind "error: device".
_FAILURES: tuple[tuple[str, type[DeviceError], str, str], ...] = (
    (
        "unauthorized|failed to authenticate|no permissions", UnauthorizedError, "it does not trust this machine yet",
        "Unlock it and allow USB debugging from this computer; if it does not ask, unplug it and plug it in again.",
    ),
    (
        "more than one", SeveralDevicesError, "the address fits more than one device",
        "Name one of these: {attached}",
    ),
    (
        "offline", UnreachableError, "it is attached but does not answer",
        "Unplug it and plug it in again, or: adb -s {serial} reconnect",
    ),
    (
        "not found|no devices", UnreachableError, "no such device is attached",
        "Plug it in and switch on USB debugging; over the network: adb connect ADDRESS:5555. Attached: {attached}",
    ),
)  # fmt: skip


class AdbWire:
    """The adb program, and the serial number of the one device meant."""

    tensorrt = False
    folder = '"${TMPDIR:-/data/local/tmp}"/edgekit'

    def __init__(self, name: str) -> None:
        address, _, options = name.partition("?")
        query = parse_qs(options, strict_parsing=True) if "=" in options else {}
        if bool(options) != bool(query) or set(query) - {"python", "benchmark_model", "accelerator"}:
            raise RecipeError(f"{name} is no address of a device", f"adb:SERIAL[?{_BENCHMARK}]")
        self.serial = address.partition(":")[2].removeprefix("//")
        self.name = f"adb:{self.serial}" if self.serial else "adb"
        self.python = query.get("python", [""])[-1]
        program_here = query.get("benchmark_model", [""])[-1]
        self.benchmark_model = Path(program_here).expanduser() if program_here else None
        if self.benchmark_model and not self.benchmark_model.is_file():
            raise RecipeError(f"{name}: there is no file {self.benchmark_model}", f"adb:SERIAL?{_BENCHMARK}")
        self.accelerator = query.get("accelerator", [""])[-1]
        if self.accelerator and (self.accelerator not in ACCELERATORS or not self.benchmark_model):
            raise RecipeError(
                f"{name}: no accelerator {self.accelerator!r} can be chosen",
                f"benchmark_model has {' and '.join(ACCELERATORS)}: adb:SERIAL?{_BENCHMARK}&accelerator=gpu",
            )

    def argv(self, script: str, *, keeper: bool = False) -> list[str]:
        """Return the adb command; -T keeps stdin, stdout and stderr apart and as they are."""
        which = ["-s", self.serial] if self.serial else []
        return [*program(), *which, "shell", "-T", f"exec sh -c {shlex.quote(script)}"]

    def revive(self, timeout_s: float) -> None:
        """Have adb connect anew over the network; what hangs on a cable it finds by itself."""
        if ":" not in self.serial:
            return
        for words in (["-s", self.serial, "reconnect"], ["connect", self.serial]):
            with suppress(subprocess.TimeoutExpired):
                subprocess.run([*program(), *words], capture_output=True, timeout=max(0.1, timeout_s / 2))

    def failure(self, status: int, stderr: list[str], *, attached: bool) -> DeviceError:
        """Tell the kinds of failure apart by adb's words."""
        said = "\n".join(stderr)
        if attached and SILENT in stderr:
            return DroppedError(
                f"{self.name}: it answered nothing for {SILENCE_S:.0f} s",
                "It froze, or the network broke: check both, then run this again.",
            )
        if attached:
            return DroppedError(
                f"{self.name}: the device was unplugged, or its adb ended{last_words(stderr[-2:])}",
                "Plug it in again and run this again.",
            )
        for pattern, kind, what, cure in _FAILURES:
            if re.search(pattern, said):
                hint = cure.format(serial=self.serial, attached=", ".join(map(_shown, attached_devices())) or "none")
                return kind(f"{self.name}: {what}{last_words(stderr[-2:])}", hint)
        return UnreachableError(
            f"{self.name}: adb ended with exit code {status}{last_words(stderr[-4:])}",
            f"try it by hand: {self.by_hand('true')}",
        )

    def by_hand(self, command: str) -> str:
        """Return the adb command line a user types."""
        which = ["-s", self.serial] if self.serial else []
        return shlex.join([*program(), *which, "shell", command])

    def close(self) -> None:
        """Leave adb's server running: it is the user's."""


def open_device(name: str) -> ShellDevice:
    """Return the device ``adb:SERIAL``, or the only one for ``adb``. Raises RecipeError for another form."""
    return ShellDevice(AdbWire(name))


def program() -> list[str]:
    """Return the adb program. Raises DependencyError where there is none."""
    found = shlex.split(os.environ.get(PROGRAM, "")) or ["adb"]
    if not shutil.which(found[0]):
        raise DependencyError(f"there is no program {found[0]}", "install it: sudo apt install adb")
    return found


def attached_devices() -> list[tuple[str, str]]:
    """Return serial number and state (device, offline, unauthorized) of every device adb sees."""
    done = subprocess.run([*program(), "devices"], capture_output=True, text=True, timeout=_LIST_S)
    found = [line.split("\t") for line in done.stdout.splitlines() if "\t" in line]
    return [(fields[0], fields[1]) for fields in found]


def _shown(device: tuple[str, str]) -> str:
    serial, state = device
    return f"adb:{serial}" if state == "device" else f"adb:{serial} ({state})"
