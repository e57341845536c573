"""How to reach what executes an artifact: one module per transport, imported only when used."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from subprocess import Popen
from types import TracebackType
from typing import Any, Literal, Protocol

from edgekit.errors import RecipeError

DEVICES: dict[str, str] = {
    "local": "edgekit.devices.local",
}


class Device(Protocol):
    """A machine to run Python scripts on. Leaving its context removes what was put there."""

    name: str
    place: Literal["host", "device"]

    def __enter__(self) -> Device: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def describe(self) -> dict[str, Any]:
        """Return the machine's facts, as ``edgekit.runtimes.facts`` tells them."""
        ...

    def push(self, path: Path) -> str:
        """Make a file available there, verified, and return its path there."""
        ...

    def start(self, script: str) -> Popen[bytes]:
        """Start a pushed Python script with pipes for stdin, stdout and stderr."""
        ...


def open_device(name: str) -> Device:
    """Return the device for ``local``, ``ssh://user@host`` or ``adb:SERIAL``; the part before ":" picks it.

    Raises RecipeError for a device of a kind that is not in the table.
    """
    kind = name.partition(":")[0]
    if kind not in DEVICES:
        raise RecipeError(f"no device of kind {kind!r}", f"kinds of devices: {', '.join(DEVICES)}")
    device: Device = import_module(DEVICES[kind]).open_device(name)
    return device
