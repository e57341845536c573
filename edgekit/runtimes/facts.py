"""Describe the machine this runs on: imported here, or copied to a device and run there alone.

It imports nothing of edgekit, only the standard library, and keeps to Python 3.9.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

MARK = "@edgekit "
_CPU0 = "/sys/devices/system/cpu/cpu0/cpufreq"
_BOARD = "/proc/device-tree/model"
_TEMPERATURE = "/sys/class/thermal/thermal_zone0/temp"
_X86_VENDORS = ("GenuineIntel", "AuthenticAMD")
TEGRASTATS = ["tegrastats", "--interval", "100"]  # one line each 100 ms
_EMULATED = "EDGEKIT_EMULATED"  # environment: set where an emulator cannot be told from the inside
_ANSWER_S = 5
_RUNTIMES = ("ai-edge-litert", "tflite-runtime", "onnxruntime", "onnxruntime-gpu")
# https://www.raspberrypi.com/documentation/computers/os.html#get_throttled: bits 0 to 3 are now, 16 to 19 since boot
_THROTTLED = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


def facts() -> dict[str, Any]:
    """Return CPU model, usable cores, memory, system, and its state of now; "" or None where it does not say."""
    cpuinfo = _text("/proc/cpuinfo")
    return {
        "cpu": _board(cpuinfo) or _field(cpuinfo, "model name") or platform.processor() or platform.machine(),
        "cores": cores(),
        "memory_bytes": memory_bytes(),
        "system": f"{platform.system()} {platform.release()}",
        "release": _text("/etc/nv_tegra_release").partition("\n")[0],  # JetPack's, and with it TensorRT's
        "unique": unique(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "emulated": is_emulated(cpuinfo),
        "runtimes": runtimes(),
        **state(),
    }


def unique() -> str:
    """Return what tells this machine from another of its kind: a digest of the board's or the system's number."""
    number = _text("/proc/device-tree/serial-number").strip("\0") or _text("/etc/machine-id")
    return hashlib.sha256(number.encode()).hexdigest()[:16] if number else ""


def runtimes() -> list[str]:
    """Return what can execute an artifact here, with versions, e.g. ``ai-edge-litert 2.3.0``."""
    found = []
    for name in _RUNTIMES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return found + [program for program in ("trtexec",) if shutil.which(program)]


def state() -> dict[str, Any]:
    """Return what may change while something is measured: load, governor, frequency, heat, what slows it down."""
    temperature = _text(_TEMPERATURE)
    power_w, hottest_c = tegrastats(_first_line(*TEGRASTATS))
    return {
        "load": load(),
        "governor": _text(f"{_CPU0}/scaling_governor"),
        "frequency_mhz": _mhz("scaling_cur_freq"),
        "max_frequency_mhz": _mhz("scaling_max_freq"),
        "temperature_c": int(temperature) / 1000 if temperature.lstrip("-").isdigit() else hottest_c,
        "power_w": power_w,
        "slowed_by": slowed_by(_said("vcgencmd", "get_throttled")),
        "power_mode": power_mode(_said("nvpmodel", "-q")),
    }


def is_emulated(cpuinfo: str) -> bool:
    """Say whether an ARM program runs on something else: figures of time and memory are worth nothing then."""
    if os.environ.get(_EMULATED):
        return True
    if platform.machine() not in ("aarch64", "armv7l", "armv6l"):
        return False
    # qemu-user passes most of the host's /proc through: its CPU, and its own name in front of other processes'.
    starter = _text(f"/proc/{os.getppid()}/cmdline")
    virtual = "linux,dummy-virt" in _text("/proc/device-tree/compatible")  # qemu-system -M virt
    return virtual or "qemu-" in starter.partition("\0")[0] or any(vendor in cpuinfo for vendor in _X86_VENDORS)


def slowed_by(get_throttled: str) -> list[str]:
    """Read ``vcgencmd get_throttled`` of a Raspberry Pi, e.g. ``throttled=0x50005``: what slows it down now."""
    digits = get_throttled.strip().partition("=0x")[2]
    try:
        bits = int(digits, 16)
    except ValueError:
        return []
    return [name for bit, name in enumerate(_THROTTLED) if bits >> bit & 1]


def tegrastats(line: str) -> tuple[float | None, float | None]:
    """Read a line of a Jetson's ``tegrastats``: the board's power in W and its hottest sensor in degrees C.

    A rail reads now/average in mW, the unit left away by JetPack 4. Without one for the whole input the rails
    add up. -256 C is a sensor without power.
    """
    rails = {name: int(now) for name, now in re.findall(r"\b((?:VDD|VIN|POM)_\w+) (\d+)(?:mW)?/\d+", line)}
    whole = next((rails[name] for name in ("VDD_IN", "POM_5V_IN") if name in rails), sum(rails.values()))
    sensors = [float(value) for value in re.findall(r"\b\w+@(-?[\d.]+)C\b", line)]
    return (whole / 1000 if rails else None), max((value for value in sensors if value > -256), default=None)


def power_mode(nvpmodel: str) -> str:
    """Read ``nvpmodel -q`` of a Jetson, e.g. ``NV Power Mode: MAXN``; "" on anything else."""
    return _field(nvpmodel, "NV Power Mode")


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


def _mhz(name: str) -> float | None:
    kilohertz = _text(f"{_CPU0}/{name}")
    return int(kilohertz) / 1000 if kilohertz.isdigit() else None


def _said(*command: str) -> str:
    """Return what a program of the board prints, "" where there is no such program."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=_ANSWER_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout


def _first_line(*command: str) -> str:
    """Return the first line of a program that would go on printing, "" where there is no such program."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    with subprocess.Popen([program, *command[1:]], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.kill()
    return line


def _board(cpuinfo: str) -> str:
    """Return the board's name from the device tree (Raspberry Pi, Jetson) or a Pi's cpuinfo, or "" on a PC."""
    return _text(_BOARD).strip("\0") or _field(cpuinfo, "Model")


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
