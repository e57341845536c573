"""Start the browser that is installed, with a fresh profile, and notice when it ends."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from edgekit.errors import CrashedError, DependencyError, DeviceError, DroppedError, UnreachableError

try:
    from playwright.async_api import Browser, async_playwright
    from playwright.async_api import Error as PlaywrightError
except ImportError:
    async_playwright = None

CHOICE = "EDGEKIT_BROWSER"  # environment: the path of a browser to take
_CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
_FIREFOXES = ("firefox", "firefox-esr")
_QUIET = ("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
          "--disable-sync", "--disable-extensions")  # fmt: skip
_GPU = ("--enable-unsafe-webgpu", "--enable-features=Vulkan")
_SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-unsafe-swiftshader")
_START_MS = 20_000
_STOP_S = 10.0


@dataclass
class Launched:
    """A running browser: its program, and its name and version."""

    executable: str
    title: str = ""


@contextmanager
def launch(address: str, *, gpu: bool, software_gpu: bool, ended: Callable[[DeviceError], None]) -> Iterator[Launched]:
    """Open an address in an installed browser without a window; closed when the context is left.

    ``ended`` is told when the browser dies before that. Raises DependencyError without playwright or a browser,
    UnreachableError where it does not start.
    """
    if async_playwright is None:
        raise DependencyError("Driving a browser needs playwright.", "Install it: pip install playwright==1.65.2")
    executable = find_browser()
    if executable is None:
        raise DependencyError(
            "No browser is installed that edgekit can start.",
            "Install one, on Debian: apt-get install chromium. Or open the page by hand: --serve. "
            f"One in an unusual place: {CHOICE}=/path/to/it",
        )
    flags = [*_QUIET, *(_SOFTWARE_GPU if software_gpu else _GPU if gpu else ())]
    watch = _Watch(Launched(executable), address, flags, ended)
    thread = Thread(target=watch.run, daemon=True)
    thread.start()
    try:
        watch.started.wait()
        if watch.failure:
            raise UnreachableError(f"{executable} does not start: {watch.failure}")
        yield watch.browser
    finally:
        watch.stop()
        thread.join(_STOP_S)


def find_browser() -> str | None:
    """Return the program of the browser to use: the user's choice, a Chromium, or Firefox."""
    if chosen := os.environ.get(CHOICE):
        return shutil.which(chosen)
    return next(filter(None, map(shutil.which, (*_CHROMIUMS, *_FIREFOXES))), None)


class _Watch:
    """Playwright in a thread of its own: its events come whatever the rest waits for."""

    def __init__(self, browser: Launched, address: str, flags: list[str], ended: Callable[[DeviceError], None]) -> None:
        self.browser = browser
        self.started = Event()
        self.failure = ""
        self._address = address
        self._flags = flags
        self._ended = ended
        self._stopping = False
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()

    def run(self) -> None:
        try:
            self._loop.run_until_complete(self._drive())
        except PlaywrightError as error:
            self.failure = error.message.strip().splitlines()[0]
        finally:
            self._loop.close()
            self.started.set()

    def stop(self) -> None:
        self._stopping = True
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)

    async def _drive(self) -> None:
        async with async_playwright() as playwright:
            browser = await self._start(playwright)
            self.browser.title = f"{_title(self.browser.executable)} {browser.version}"
            browser.on("disconnected", lambda _: self._tell(DroppedError(f"{self._name()} was closed or ended.")))
            page = await browser.new_page()
            page.on("crash", lambda _: self._tell(CrashedError(f"The page crashed in {self._name()}.", _MEMORY)))
            page.on("close", lambda _: self._tell(DroppedError(f"The page was closed in {self._name()}.")))
            await page.goto(self._address)
            self.started.set()
            await self._stop.wait()
            if browser.is_connected():
                await browser.close()

    async def _start(self, playwright: Any) -> Browser:
        kind: Any = playwright.chromium
        options: dict[str, Any] = {"args": self._flags}
        if os.path.basename(self.browser.executable).startswith("firefox"):
            kind, options = playwright.firefox, {"channel": "moz-firefox"}
        elif hasattr(os, "geteuid") and os.geteuid() == 0:
            options["args"] = [*self._flags, "--no-sandbox"]  # Chromium does not start as root with it
        return await kind.launch(
            executable_path=self.browser.executable, headless=True, timeout=_START_MS,
            handle_sigint=False, handle_sigterm=False, handle_sighup=False, **options,
        )  # fmt: skip

    def _tell(self, error: DeviceError) -> None:
        if not self._stopping:
            self._ended(error)

    def _name(self) -> str:
        return self.browser.title or self.browser.executable


_MEMORY = "A browser gives a page a few gigabytes at most; the model may be too large for it."


def _title(executable: str) -> str:
    name = os.path.basename(executable)
    known = {"google-chrome": "Chrome", "microsoft-edge": "Edge", "firefox": "Firefox", "chrom": "Chromium"}
    return next((title for start, title in known.items() if name.startswith(start)), name)
