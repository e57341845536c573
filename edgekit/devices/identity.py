"""What a device is, so that a result of another one at the same address is not taken for its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekit.devices import open_device
from edgekit.progress import Progress

_WHAT_IT_IS = (
    "cpu", "cores", "memory_bytes", "system", "release", "machine", "unique", "python", "runtimes", "emulated",
)  # fmt: skip


def identity(address: str) -> dict[str, Any]:
    """Reach the device and return what of it a measurement depends on, but for its state of the moment.

    Raises DeviceError where it cannot be reached.
    """
    with open_device(address) as device:
        facts = device.describe()
        return {name: facts.get(name) for name in _WHAT_IT_IS} | {"program": device.program_sha256}


def run(*, out: Path, progress: Progress, address: str) -> dict[str, Any]:
    """Return ``identity`` out of a child process: a browser and its driver are not to live in the build's own."""
    return identity(address)
