"""Describe the machine this runs on: imported here, or copied to a device and run there alone.

It imports nothing of edgekit, only the standard library, and keeps to Python 3.9.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from typing import Any

MARK = "@edgekit "
_GOVERNOR = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"
_BOARD = "/proc/device-tree/model"
_TEMPERATURE = "/sys/class/thermal/thermal_zone0/temp"
_X86_VENDORS = ("GenuineIntel", "AuthenticAMD")


def facts() -> dict[str, Any]:
    """Return CPU model, usable cores, memory, system, load; "" or None where the system does not say."""
    cpuinfo = _text("/proc/cpuinfo")
    temperature = _text(_TEMPERATURE)
    return {
        "cpu": _board() or _field(cpuinfo, "model name") or platform.processor() or platform.machine(),
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "python": platform.python_version(),
        "load": load(),
        "governor": _text(_GOVERNOR),
        "temperature_c": int(temperature) / 1000 if temperature.lstrip("-").isdigit() else None,
        # qemu-user passes the host's /proc through: an ARM process that sees an x86 CPU is emulated.
        "emulated": platform.machine() in ("aarch64", "armv7l") and any(v in cpuinfo for v in _X86_VENDORS),
    }


def cores() -> int:
    """Return how many cores this process may use."""
    if sys.platform.startswith("linux"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float | None:
    """Return the one-minute load average, or None where there is none (Windows)."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def memory_bytes() -> int:
    """Return the physical memory, or 0 where it cannot be read."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def _board() -> str:
    """Return the board's name from the device tree (Raspberry Pi, Jetson), or "" on a PC."""
    return _text(_BOARD).strip("\0")


def _field(text: str, key: str) -> str:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.stdout.write(f"{MARK}{json.dumps(facts())}\n")
