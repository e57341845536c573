"""The facts of a machine with a shell and no Python, such as a phone."""

from __future__ import annotations

from typing import Any

# One value a line, in the order of _KEYS; what a device does not have leaves its line empty.
SCRIPT = r"""
say() { printf '%s\n' "$(eval "$1" 2> /dev/null | head -n 1)"; }
say 'getprop ro.product.manufacturer'; say 'getprop ro.product.model'; say 'getprop ro.build.version.release'
say 'uname -sr'; say 'uname -m'; say 'grep -c ^processor /proc/cpuinfo'
say "sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo"; say 'cut -d " " -f 1 /proc/loadavg'
cpu=/sys/devices/system/cpu/cpu0/cpufreq
say "cat $cpu/scaling_governor"; say "cat $cpu/scaling_cur_freq"; say "cat $cpu/scaling_max_freq"
say 'cat /sys/class/thermal/thermal_zone0/temp'
"""
_KEYS = ("maker", "model", "android", "system", "machine", "cores", "memory_kb", "load", "governor",
         "frequency_khz", "max_frequency_khz", "temperature_mc")  # fmt: skip


def facts(said: str) -> dict[str, Any]:
    """Return what SCRIPT printed, with the keys of ``edgekit.runtimes.facts.facts``."""
    found = dict(zip(_KEYS, said.split("\n") + [""] * len(_KEYS), strict=False))
    name = " ".join(filter(None, (found["maker"], found["model"])))
    return {
        "cpu": name or found["machine"],
        "cores": int(_number(found["cores"]) or 1),
        "memory_bytes": int((_number(found["memory_kb"]) or 0) * 1024),
        "system": f"Android {found['android']}" if found["android"] else found["system"],
        "machine": found["machine"],
        "python": "",
        "emulated": False,
        "runtimes": [],
        "load": _number(found["load"]),
        "governor": found["governor"],
        "frequency_mhz": _scaled(found["frequency_khz"]),
        "max_frequency_mhz": _scaled(found["max_frequency_khz"]),
        "temperature_c": _scaled(found["temperature_mc"]),
        "slowed_by": [],
        "power_mode": "",
    }


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _scaled(thousandths: str) -> float | None:
    value = _number(thousandths)
    return None if value is None else value / 1000
