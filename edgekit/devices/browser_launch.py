"""Start the browser that is installed, with a fresh profile and without a window, and notice when it ends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgekit.devices import browser_chromium, browser_firefox
from edgekit.errors import DependencyError, DeviceError, UnreachableError

CHOICE = "EDGEKIT_BROWSER"  # environment: the program of a browser to take
_BROWSERS = {  # program -> browser; the first one that is installed is taken
    "chromium": "Chromium",
    "chromium-browser": "Chromium",
    "google-chrome": "Chrome",
    "google-chrome-stable": "Chrome",
    "microsoft-edge": "Edge",
    "firefox": "Firefox",
    "firefox-esr": "Firefox",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome": "Chrome",
    "/Applications/Microsoft Edge.app/Contents/MacOS/Microsoft Edge": "Edge",
    "/Applications/Firefox.app/Contents/MacOS/firefox": "Firefox",
}
Ended = Callable[[DeviceError], None]


@dataclass
class Launched:
    """A running browser: its program, and its name and version."""

    executable: str
    title: str


@contextmanager
def launch(address: str, *, gpu: bool, software_gpu: bool, ended: Ended) -> Iterator[Launched]:
    """Open an address in an installed browser; closed when the context is left.

    ``ended`` is told when the browser dies before that. Raises DependencyError without a browser, or without the
    library that drives it, UnreachableError where it does not start.
    """
    executable = find_browser()
    if executable is None:
        raise DependencyError(
            "No browser is installed that edgekit can start.",
            "Install one, on Debian: apt-get install chromium. Or open the page by hand: --serve. "
            f"One in an unusual place: {CHOICE}=/path/to/it",
        )
    name = Path(executable).name
    title = next((title for program, title in _BROWSERS.items() if Path(program).name == name), name)
    started: AbstractContextManager[str]
    if title == "Firefox":
        started = browser_firefox.started(executable, address, ended)
    else:
        started = browser_chromium.started(executable, title, address, gpu, software_gpu, ended)
    with started as version:
        yield Launched(executable, f"{title} {version}")


def find_browser() -> str | None:
    """Return the program of the browser to use: the user's choice, a Chromium, or Firefox."""
    if chosen := os.environ.get(CHOICE):
        found = shutil.which(chosen)
        if found is None:
            raise UnreachableError(f"{CHOICE} is {chosen!r}, and there is no such program.")
        return found
    return next(filter(None, map(shutil.which, _BROWSERS)), None)
