"""The data wheel with the JavaScript and WebAssembly, each file checked before it is served."""

from __future__ import annotations

import hashlib
import tomllib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgekit.errors import DependencyError

_PINS = Path(__file__).with_name("assets.toml")
_MODULE = "edgekit_web_assets"
INSTALL = "Install it: make web (in edgekit's checkout; needs npm once), or pip install its wheel, which holds all"


class Assets:
    """The installed files. Raises DependencyError where the wheel is missing."""

    def __init__(self) -> None:
        found = find_spec(_MODULE)
        if found is None or found.origin is None:
            raise DependencyError(
                f"The browser page needs the data wheel edgekit-web-assets {wheel_version()}.", INSTALL
            )
        self._folder = Path(found.origin).parent
        self._digests = {
            inside: sha256 for package in _pins()["packages"] for inside, (_, sha256) in package["files"].items()
        }
        self._checked: set[str] = set()

    def read(self, name: str) -> bytes | None:
        """Return a file, or None for one that the page has not. Raises DependencyError for a changed one."""
        if name not in self._digests:
            return None
        path = self._folder / name
        content = path.read_bytes() if path.is_file() else b""
        if name not in self._checked:
            if hashlib.sha256(content).hexdigest() != self._digests[name]:
                raise DependencyError(
                    f"{path} is missing or not the file that edgekit {wheel_version()} assets hold.",
                    f"Remove it first: pip uninstall edgekit-web-assets. {INSTALL}",
                )
            self._checked.add(name)
        return content


def wheel_version() -> str:
    """Return the version of the data wheel that this edgekit takes."""
    return str(_pins()["version"])


def package_version(name: str) -> str:
    """Return the pinned version of one npm package."""
    return next(str(package["version"]) for package in _pins()["packages"] if package["name"] == name)


@cache
def _pins() -> dict[str, Any]:
    return tomllib.loads(_PINS.read_text())
