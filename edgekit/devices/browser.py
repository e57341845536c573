"""A web browser as a device: the page runs the artifact, in a browser started here or opened by hand elsewhere."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack
from itertools import count
from types import TracebackType
from typing import Any, Literal

from edgekit.devices.browser_address import Address, parse
from edgekit.devices.browser_launch import Launched, launch
from edgekit.devices.browser_session import BrowserSession
from edgekit.devices.process_tree import cpu_seconds
from edgekit.errors import (
    ClocksError,
    DeviceError,
    DroppedError,
    TimedOutError,
    UnreachableError,
)
from edgekit.runtimes.agent import busy_seconds
from edgekit.runtimes.facts import facts as host_facts
from edgekit.runtimes.web import WEB_RUNTIMES
from edgekit.runtimes.web.assets import package_version
from edgekit.runtimes.web.server import PageServer

_SILENCE_S = 10.0  # the page beats every 2 s from a thread of its own
_LOOK_S = 0.2
_START_S = 30.0
_BY_HAND_S = 900.0
_SOFTWARE_GPU = re.compile(r"swiftshader|llvmpipe|lavapipe|basic render", re.IGNORECASE)


class BrowserDevice:
    """One page. Its sessions are frames of it, each with a runtime and a WebAssembly memory of its own."""

    place: Literal["host", "device"] = "device"
    program_sha256 = ""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.name = address.name
        self.page_facts: dict[str, Any] = {}
        self._numbers = count()
        self._own_s = 0.0
        self._stack = ExitStack()

    def __enter__(self) -> BrowserDevice:
        with ExitStack() as stack:
            if self.address.host:
                self._wait_by_hand(stack)
            else:
                self._start_browser(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def describe(self) -> dict[str, Any]:
        """Return the browser and what it says of its machine; of a browser started here, the CPU too."""
        here = host_facts() if self._launched else {}
        said = self.page_facts
        gpu = _gpu_name(said["gpu"]) if self.address.accelerator == "webgpu" else ""
        chip = gpu or here.get("cpu", "")
        return {
            "cpu": f"{self._browser_name()}{f' on {chip}' if chip else ''}",
            "cores": said["cores"],
            "runtimes": [f"{runtime.name} {package_version(runtime.package)}" for runtime in WEB_RUNTIMES.values()],
            "memory_bytes": here.get("memory_bytes", said["memory_bytes"]),
            "system": said["user_agent"],
            "machine": here.get("machine", ""),
            "python": "",
            "load": here.get("load"),
            "governor": here.get("governor", ""),
            "temperature_c": here.get("temperature_c"),
            "emulated": self.address.accelerator == "webgpu" and self._software_gpu(),
        }

    def lock_clocks(self) -> str:
        """Raise ClocksError: a page has no say in them."""
        raise ClocksError(f"{self.name}: a page cannot lock clocks.", "--lock-clocks is for boards: --device ssh://...")

    def connect(self, artifact: str) -> BrowserSession:
        """Open a frame for the artifact."""
        return BrowserSession(self, artifact, next(self._numbers))

    def call(self, name: str, timeout_s: float, **given: Any) -> dict[str, Any]:
        """Have the page do one thing; a failure of it is ``error`` in the reply.

        Raises DeviceError when the page is gone or out of time.
        """
        number = self._server.send(name, **given)
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            if (reply := self._server.reply(number, _LOOK_S)) is not None:
                return reply
            if self._server.ended:
                raise self._server.ended
            if time.monotonic() - self._server.last_seen > _SILENCE_S:
                raise DroppedError(
                    f"{self.name}: the page has not been heard of for {_SILENCE_S:.0f} s, during {name!r}.",
                    "Keep the page in front and the screen on, and check the network between the two.",
                )
        raise TimedOutError(
            f"{self.name}: no answer to {name!r} within {timeout_s:.0f} s.",
            "The model hangs there or is far slower than expected.",
        )

    def add_file(self, content: bytes) -> str:
        return self._server.add_file(content)

    def drop_file(self, address: str) -> None:
        self._server.drop_file(address)

    def busy_seconds(self) -> float | None:
        """Return the CPU seconds of all that runs on the machine; None where that is another one."""
        return busy_seconds() if self._launched else None

    def own_seconds(self) -> float:
        """Return the CPU seconds of this process and its browser since the last call: frames share one process."""
        if not self._launched:
            return 0.0
        before, self._own_s = self._own_s, cpu_seconds()
        return self._own_s - before

    @property
    def _launched(self) -> bool:
        return not self.address.host

    def _wait_by_hand(self, stack: ExitStack) -> None:
        host, port, token = self.address.host, self.address.port, self.address.token
        try:
            self._server = PageServer(host, port, token)
        except OSError as error:
            raise UnreachableError(
                f"Cannot listen on {host}:{port}: {error.strerror}.", "Choose another: --listen HOST:PORT"
            ) from error
        stack.callback(self._server.close)
        if not self._server.wait_for_page(_BY_HAND_S):
            raise UnreachableError(f"No browser opened the page within {_BY_HAND_S / 60:.0f} minutes.")
        self._ask_facts()

    def _start_browser(self, stack: ExitStack) -> None:
        """Start a browser; for WebGPU once more with a GPU in software where it has no real one."""
        for software_gpu in (False, True):
            with ExitStack() as attempt:
                self._server = attempt.enter_context(PageServer())
                self.browser: Launched = attempt.enter_context(
                    launch(
                        f"http://127.0.0.1:{self._server.port}{self._server.path}",
                        gpu=self.address.accelerator == "webgpu", software_gpu=software_gpu, ended=self._server.end,
                    )
                )  # fmt: skip
                if not self._server.wait_for_page(_START_S):
                    raise self._server.ended or UnreachableError(
                        f"{self.browser.executable} was started but did not open the page within {_START_S:.0f} s."
                    )
                self._ask_facts()
                if self.address.accelerator == "wasm" or self.page_facts["gpu"]:
                    stack.push(attempt.pop_all())
                    return
        raise DeviceError(f"{self._browser_name()} has no WebGPU here.", "Profile with --device browser:wasm")

    def _ask_facts(self) -> None:
        self.page_facts = self.call("facts", _START_S)
        if self.address.accelerator == "webgpu" and not self.page_facts["gpu"] and not self._launched:
            raise DeviceError(
                f"The page has no WebGPU: {self.page_facts['user_agent']}",
                "" if self.page_facts["secure"] else "Browsers give it on https and localhost alone.",
            )

    def _software_gpu(self) -> bool:
        gpu = self.page_facts["gpu"]
        return bool(gpu["fallback"] or any(_SOFTWARE_GPU.search(str(text)) for text in gpu.values()))

    def _browser_name(self) -> str:
        """Return name and version, from the user agent string where the browser gives nothing better."""
        if self._launched:
            return self.browser.title
        brands = [b for b in self.page_facts["brands"] if "Not" not in b["brand"]]
        brand = next((b for b in brands if b["brand"] != "Chromium"), brands[0] if brands else None)
        if brand:
            return f"{brand['brand']} {brand['version']}"
        known = re.search(r"(Firefox|Edg|OPR|Chrome|Version)/([\d.]+)", self.page_facts["user_agent"])
        return f"{known[1].replace('Version', 'Safari')} {known[2]}" if known else "a browser"


def _gpu_name(gpu: dict[str, Any]) -> str:
    return " ".join(str(gpu[key]) for key in ("vendor", "architecture", "device") if gpu[key])


def open_device(name: str) -> BrowserDevice:
    """Return the device for ``browser[:wasm|webgpu]``, or for a page opened by hand; see ``Address.device``."""
    return BrowserDevice(parse(name))
