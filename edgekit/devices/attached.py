"""What can be reached now: this machine, phones that adb sees, and the addresses a recipe names."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import Any

from edgekit.devices import open_device
from edgekit.devices.adb import attached_devices
from edgekit.devices.browser_launch import find_browser
from edgekit.devices.shell import ShellDevice
from edgekit.errors import EdgekitError
from edgekit.runtimes.web.assets import INSTALL

_AT_ONCE = 8


@dataclass(frozen=True)
class Attached:
    """One device: ready, or why not and the cure."""

    address: str
    machine: str = ""
    system: str = ""
    runtimes: tuple[str, ...] = ()
    emulated: bool = False
    problem: str = ""
    cure: str = ""

    @property
    def ready(self) -> bool:
        return not self.problem

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ready": self.ready}


def attached(addresses: Iterable[str]) -> list[Attached]:
    """Look at every device side by side: ``addresses``, this machine, adb's devices and an installed browser."""
    wanted = dict.fromkeys(["local", *addresses])
    if shutil.which("adb"):
        wanted |= dict.fromkeys(f"adb:{serial}" for serial, _ in attached_devices())
    if find_browser():
        wanted |= dict.fromkeys(["browser"])
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(look, wanted))


def look(address: str) -> Attached:
    """Reach one device and say what it is, and what it can run."""
    try:
        if address == "browser":
            return _browser()
        with open_device(address) as device:
            facts = device.describe()
    except EdgekitError as error:
        return Attached(address, problem=error.message.splitlines()[0].removeprefix(f"{address}: "), cure=error.hint)
    machine = f"{facts['cpu']}, {facts['cores']} cores"
    if not facts["runtimes"] and isinstance(device, ShellDevice):
        cure = device.missing_library("", "", "tflite").hint
        return Attached(address, machine, facts["system"], problem="nothing there executes artifacts", cure=cure)
    return Attached(address, machine, facts["system"], tuple(facts["runtimes"]), facts["emulated"])


def _browser() -> Attached:
    """Say which browser is installed, without starting it."""
    found = find_browser() or ""
    for module in ("playwright", "edgekit_web_assets"):
        if find_spec(module) is None:
            return Attached("browser", found, problem=f"{module} is missing", cure=INSTALL)
    return Attached("browser", found, runtimes=("LiteRT.js", "onnxruntime-web"))
