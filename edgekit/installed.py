"""What is installed, what edgekit needs, and the lock file that pins it: pip reads an ``edgekit.lock`` too."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from edgekit import __version__
from edgekit.convert import onnx_converter
from edgekit.errors import DependencyError, RecipeError

LOCK = "edgekit.lock"
PROGRAMS = {
    "ssh": "apt-get install openssh-client",
    "sftp": "apt-get install openssh-client",
    "adb": "apt-get install adb",
    "chromium": "apt-get install chromium",
}
_HEAD = "# edgekit"
_PYTHON = "# python"


@dataclass(frozen=True)
class Need:
    """A library that edgekit needs. ``found``: its version, or "" where it is missing.

    ``command``: what installs the optional part it is of, where that is no extra of edgekit.
    """

    name: str
    wanted: str
    found: str
    extra: str = ""
    command: str = ""

    @property
    def fits(self) -> bool:
        return bool(self.found) and Requirement(f"{self.name}{self.wanted}").specifier.contains(self.found, True)

    @property
    def cure(self) -> str:
        return "" if self.fits else self.command or f"pip install '{self.name}{self.wanted}'"


def needs(*extras: str) -> list[Need]:
    """Return what this machine's edgekit needs, also for the optional parts that are named."""
    found = []
    for requirement, extra in _required("edgekit", ("", *extras)):
        found.append(Need(requirement.name, str(requirement.specifier), _version(requirement.name), extra))
    return found


def onnx_converter_needs() -> list[Need]:
    """Return the converter that TFLite files are made from ONNX models with."""
    exact = {name: f"=={onnx_converter.NEEDED[name]}" for name in onnx_converter.EXACT}
    return [
        Need(name, exact.get(name, ""), _version(name), "ONNX to TFLite", onnx_converter.COMMAND)
        for name in onnx_converter.NEEDED
    ]


def require_pytorch(path: Path) -> None:
    """Raise DependencyError where what reads a .pt2 file is not installed."""
    missing = [name for name in ("torch", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise DependencyError(
            f"{path.name} is a PyTorch program, and {' and '.join(missing)} cannot be imported.",
            "In the checkout of edgekit: pip install -e '.[pytorch]'",
        )


def programs() -> dict[str, str]:
    """Return where each program that reaches a device is; "" where it is missing."""
    return {name: shutil.which(name) or "" for name in PROGRAMS}


def closure() -> dict[str, str]:
    """Return the version of every library that edgekit stands on, by name, also the indirect ones."""
    found: dict[str, str] = {}
    waiting = ["edgekit"]
    while waiting:
        for requirement, _ in _required(waiting.pop(), ("",)):
            name, version = canonicalize_name(requirement.name), _version(requirement.name)
            if version and name not in found:
                found[name] = version
                waiting.append(requirement.name)
    return dict(sorted(found.items()))


def lock() -> str:
    """Return the text of a lock file: edgekit's and Python's version as comments, then pip requirements."""
    head = [f"{_HEAD} {__version__}", f"{_PYTHON} {platform.python_version()}"]
    return "\n".join([*head, *(f"{name}=={version}" for name, version in closure().items())]) + "\n"


def differences(path: Path) -> list[str]:
    """Say what is installed otherwise than the lock file has it. Raises RecipeError where it is no lock file."""
    pinned = _read(path)
    present = {"edgekit": __version__, "python": platform.python_version(), **closure()}
    return [
        f"{name}: {present.get(name) or _version(name) or 'not'} installed, {path.name} has {version}"
        for name, version in pinned.items()
        if (present.get(name) or _version(name)) != version
    ]


def refuse_others(path: Path) -> None:
    """Raise DependencyError unless everything is installed exactly as the lock file has it."""
    found = differences(path)
    if found:
        lines = "\n".join(f"  {line}" for line in found)
        raise DependencyError(
            f"The installed versions are not those of {path}:\n{lines}",
            f"pip install -r {path}    or accept the installed ones: edgekit lock {path}",
        )


def _read(path: Path) -> dict[str, str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise RecipeError(f"Cannot read {path}: {reason}.", f"Write it: edgekit lock {path}") from error
    pinned: dict[str, str] = {}
    for number, line in enumerate(filter(str.strip, lines), 1):
        words = line.removeprefix("# ").split() if line.startswith(("# edgekit ", "# python ")) else line.split("==")
        if len(words) != 2:
            raise RecipeError(f"{path}, line {number}: not name==version: {line!r}.", f"Write it: edgekit lock {path}")
        pinned[words[0].strip()] = words[1].strip()
    if "edgekit" not in pinned:
        raise RecipeError(f"{path} does not say which edgekit it is of.", f"Write it: edgekit lock {path}")
    return pinned


def _required(name: str, extras: tuple[str, ...]) -> Iterator[tuple[Requirement, str]]:
    try:
        lines = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise DependencyError(f"{name} is not installed.", "In a checkout: pip install -e .") from error
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:  # of another package, written before PEP 508; edgekit's own are all valid
            continue
        for extra in extras:
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                yield requirement, extra
                break


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
