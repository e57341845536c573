"""Chromium, Chrome and Edge, driven by Playwright in a thread of its own: its events come whatever the rest does."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

from edgekit.errors import CrashedError, DependencyError, DeviceError, DroppedError, UnreachableError

try:
    from playwright.async_api import Error as PlaywrightError
    from playwright.async_api import async_playwright
except ImportError:  # said where it is needed
    async_playwright = None

_QUIET = ("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
          "--disable-sync", "--disable-extensions")  # fmt: skip
_GPU = ("--enable-unsafe-webgpu", *(("--enable-features=Vulkan",) if sys.platform.startswith("linux") else ()))
_SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-unsafe-swiftshader")
_MEMORY = "A browser gives a page a few gigabytes at most; the model may be too large for it."
_START_MS = 20_000
_STOP_S = 10.0


@contextmanager
def started(
    executable: str, title: str, address: str, gpu: bool, software_gpu: bool, ended: Callable[[DeviceError], None]
) -> Iterator[str]:
    """Open an address in it and yield its version; ``ended`` is told when it dies before the context is left.

    Raises DependencyError without Playwright, UnreachableError where the browser does not start.
    """
    if async_playwright is None:
        raise DependencyError("Driving a browser needs playwright.", "Install it: pip install playwright==1.65.2")
    flags = [*_QUIET, *(_SOFTWARE_GPU if software_gpu else _GPU if gpu else ())]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        flags.append("--no-sandbox")  # as root it does not start without
    driver = _Driver(executable, title, address, flags, ended)
    thread = Thread(target=driver.run, daemon=True)
    thread.start()
    try:
        driver.started.wait()
        if driver.failure:
            raise UnreachableError(f"{executable} does not start: {driver.failure}")
        yield driver.version
    finally:
        driver.stop()
        thread.join(_STOP_S)


class _Driver:
    """Starts the browser, opens the page, tells how it ended. ``run`` is for a thread of its own."""

    def __init__(
        self, executable: str, title: str, address: str, flags: list[str], ended: Callable[[DeviceError], None]
    ) -> None:
        self.started = Event()
        self.failure = ""
        self.version = ""
        self._executable = executable
        self._title = title
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
            self.failure = str(error).strip().splitlines()[0]
        finally:
            self._loop.close()
            self.started.set()

    def stop(self) -> None:
        self._stopping = True
        with suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)

    async def _drive(self) -> None:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=self._executable, headless=True, timeout=_START_MS, args=self._flags,
                handle_sigint=False, handle_sigterm=False, handle_sighup=False,
            )  # fmt: skip
            self.version = browser.version
            name = f"{self._title} {browser.version}"
            browser.on("disconnected", lambda _: self._tell(DroppedError(f"{name} was closed or ended.")))
            page = await browser.new_page()
            page.on("crash", lambda _: self._tell(CrashedError(f"The page crashed in {name}.", _MEMORY)))
            page.on("close", lambda _: self._tell(DroppedError(f"The page was closed in {name}.")))
            await page.goto(self._address)
            self.started.set()
            await self._stop.wait()
            if browser.is_connected():
                await browser.close()

    def _tell(self, error: DeviceError) -> None:
        if not self._stopping:
            self._ended(error)
