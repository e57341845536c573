"""What to do about a device that lacks something: the exact command, to be pasted."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from edgekit.errors import NoSpaceError, RuntimeMissingError

_PACKAGES = {"tflite": "ai-edge-litert", "onnx": "onnxruntime"}
_ARM32 = ("armv6l", "armv7l")
_MEGABYTE = 1_000_000
ByHand = Callable[[str], str]


def missing_runtime(
    device: str, artifact: str, error: str, format: str, machine: str, by_hand: ByHand
) -> RuntimeMissingError:
    """Return the error for a device whose Python cannot import the runtime of ``format``."""
    message = f"{artifact}: {device} has no runtime for .{format} files: {error}"
    if library := re.search(r"([\w+.-]+\.so[\w.]*): cannot open shared object", error):
        package = "libstdc++6" if library[1].startswith("libstdc++") else f"the package that holds {library[1]}"
        return RuntimeMissingError(message, f"install what it needs there: {by_hand(f'sudo apt install {package}')}")
    if machine in _ARM32 and format == "onnx":
        return RuntimeMissingError(message, "ONNX Runtime has no wheel for 32-bit ARM: use a 64-bit system, or TFLite")
    return RuntimeMissingError(message, f"install it there: {by_hand(install_command(format, machine))}")


def missing_python(device: str, wanted: str, by_hand: ByHand) -> RuntimeMissingError:
    """Return the error for a device without Python, or without the one the user named."""
    name = wanted or "python3"
    if device.startswith("adb") and not wanted:
        return RuntimeMissingError(
            f"{device} has no Python, as phones come",
            "Name TFLite's benchmark_model, built for its processor, behind the address: "
            f"{device}?benchmark_model=PATH (a file of this machine; edgekit brings it there). It times .tflite files.",
        )
    return RuntimeMissingError(
        f"{device} has no {name}",
        f"install it there: {by_hand('sudo apt install python3 python3-venv')}"
        if not wanted
        else "name one that is there: ?python=/path/to/python3 behind the address",
    )


def install_command(format: str, machine: str) -> str:
    """Return the command that installs the runtime of ``format`` into ~/edgekit, where edgekit looks first."""
    packages = "tflite-runtime 'numpy<2'" if machine in _ARM32 else _PACKAGES[format]
    return f"python3 -m venv ~/edgekit && ~/edgekit/bin/pip install {packages}"


def full_disk(device: str, folder: str, path: Path | None = None, free_bytes: int | None = None) -> NoSpaceError:
    """Return the error for a device whose disk holds no more."""
    what = f" for {path.name} ({path.stat().st_size / _MEGABYTE:.1f} MB)" if path else ""
    free = f"; {free_bytes / _MEGABYTE:.1f} MB are free" if free_bytes is not None else ""
    return NoSpaceError(
        f"{device}: no space left{what} in {folder}{free}", "free some space on the device and run this again"
    )
