"""How to reach what executes an artifact: one module per kind of device, imported only when used."""

from __future__ import annotations

from importlib import import_module
from types import TracebackType
from typing import Any, Literal, Protocol

from edgekit.errors import RecipeError

DEVICES: dict[str, str] = {
    "local": "edgekit.devices.local",
    "ssh": "edgekit.devices.ssh",
    "adb": "edgekit.devices.adb",
    "browser": "edgekit.devices.browser",
}


class Session(Protocol):
    """One artifact on a device, in a process (or page) of its own; leaving the context ends it."""

    def __enter__(self) -> Session: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def ask(self, command: str, timeout_s: float, **arguments: Any) -> dict[str, Any]:
        """Have one command done there and return its reply, as ``edgekit.runtimes.agent.Agent`` describes it.

        A Path in ``arguments`` is a file of this machine: the session brings it there. The commands are
        ``load(path, format, threads, inputs, seed)``, where ``inputs`` is an .npz keyed by input name or None,
        ``outputs()``, ``run(tensors)``, ``warmup(calls, seconds)``,
        ``group(samples, calls_per_sample, lead_in, limit_s)``, ``ops(path, format, threads, runs)``, ``usage()``,
        ``memory()`` and, where the device's facts name a power, ``energy(meter, seconds)``.
        Raises a DeviceError that says what happened to the device, DependencyError where this machine lacks
        the runtime, StageError when the model itself failed.
        """
        ...


class Device(Protocol):
    """Something that executes artifacts. Leaving its context removes what was put there."""

    name: str
    place: Literal["host", "device"]

    @property
    def program_sha256(self) -> str:
        """The content of the program of the user's that runs artifacts there, "" where edgekit's agent does."""
        ...

    def __enter__(self) -> Device:
        """Reach it. Raises the DeviceError that says why it cannot be reached, and the cure."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def describe(self) -> dict[str, Any]:
        """Return its facts of now, with the keys of ``edgekit.runtimes.facts.facts``."""
        ...

    def lock_clocks(self) -> str:
        """Set its clocks to their highest until the context is left; return what was before.

        Raises ClocksError where that cannot be.
        """
        ...

    def connect(self, artifact: str) -> Session:
        """Start a session for the artifact that errors are to name so."""
        ...


def open_device(name: str) -> Device:
    """Return the device for ``local``, ``ssh://user@host[:port]`` or ``adb:SERIAL``; the part before ":" picks it.

    Nothing is reached before its context is entered. Raises RecipeError for a device of a kind that is not in
    the table, or an address that its kind cannot read.
    """
    kind = name.partition(":")[0]
    if kind not in DEVICES:
        raise RecipeError(f"no device of kind {kind!r}", f"kinds of devices: {', '.join(DEVICES)}")
    device: Device = import_module(DEVICES[kind]).open_device(name)
    return device
