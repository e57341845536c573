"""One artifact in a frame of the page: what is asked of it, and what its failures mean."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Any, Protocol

from edgekit.devices.browser_address import Address
from edgekit.errors import DeviceError, StageError, UnsupportedError
from edgekit.runtimes.agent import read_inputs, synthetic_inputs
from edgekit.runtimes.ort_ops import providers, summarize
from edgekit.runtimes.web import WEB_RUNTIMES, WebRuntime
from edgekit.runtimes.web.assets import package_version

_OPEN_S = 30.0


class Page(Protocol):
    """What a session needs of its page."""

    name: str
    address: Address
    page_facts: dict[str, Any]

    def call(self, name: str, timeout_s: float, **given: Any) -> dict[str, Any]: ...

    def add_file(self, content: bytes) -> str: ...

    def drop_file(self, address: str) -> None: ...

    def busy_seconds(self) -> float | None: ...

    def own_seconds(self) -> float: ...


class BrowserSession:
    """One artifact in a frame of the page; leaving the context removes the frame."""

    def __init__(self, page: Page, artifact: str, number: int) -> None:
        self.page = page
        self.artifact = artifact
        self.number = number
        self._own_s = 0.0

    def __enter__(self) -> BrowserSession:
        self._call("open", _OPEN_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._call("close", _OPEN_S)

    def ask(self, command: str, timeout_s: float, **arguments: Any) -> dict[str, Any]:
        """Have one command done; see ``edgekit.devices.Session``.

        Raises UnsupportedError for a model that the runtime of the page refuses.
        """
        if command == "load":
            return self._load(timeout_s, **arguments)
        if command == "usage":
            self._own_s += self.page.own_seconds()
            return {"clock_s": time.monotonic(), "busy_s": self.page.busy_seconds(), "own_s": self._own_s}
        if command == "run":
            return self._run(timeout_s, **arguments)
        if command == "ops":
            return self._ops(timeout_s, **arguments)
        return self._call(command, timeout_s, **arguments)

    def _load(
        self, timeout_s: float, path: Path, format: str, threads: int, inputs: Path | None, seed: int
    ) -> dict[str, Any]:
        runtime = WEB_RUNTIMES[format]
        self._check_threads(threads)
        model = self.page.add_file(path.read_bytes())
        try:
            loaded = self._call(
                "load", timeout_s, format=format, model=model, accelerator=self.page.address.accelerator,
                threads=threads, text=f"Measuring {Path(self.artifact).name}", runtime=runtime,
            )  # fmt: skip
        finally:
            self.page.drop_file(model)
        first = self._feed(timeout_s, loaded["inputs"], inputs, seed)
        accelerator = self.page.address.accelerator
        version = f"{package_version(runtime.package)}{' WebGPU' if accelerator == 'webgpu' else ''}"
        return {"runtime": runtime.name, "version": version, "before_load_bytes": 0, **loaded, **first}

    def _ops(self, timeout_s: float, path: Path, format: str, threads: int, runs: int) -> dict[str, Any]:
        """Time single ops where the runtime of the page does: means, for its clock has steps of 5 us and more."""
        runtime, accelerator = WEB_RUNTIMES[format], self.page.address.accelerator
        if not runtime.times_ops or accelerator == "webgpu":
            on = " on WebGPU" if accelerator == "webgpu" else ""
            raise StageError(f"{runtime.name} times no single ops{on}")
        model = self.page.add_file(path.read_bytes())
        try:
            found = self._call(
                "trace", timeout_s, format=format, model=model, accelerator=accelerator, threads=threads, runs=runs,
                runtime=runtime,
            )  # fmt: skip
        finally:
            self.page.drop_file(model)
        return {"ops": summarize(found["events"], runs, fmean), "nodes": providers(found["events"])}

    def _feed(self, timeout_s: float, wanted: list[dict[str, Any]], inputs: Path | None, seed: int) -> dict[str, Any]:
        try:
            arrays = read_inputs(str(inputs), wanted) if inputs else synthetic_inputs(wanted, seed)
        except ValueError as error:
            raise StageError(f"{self.artifact}: {error}") from error
        with self._served((array.tobytes(), array.dtype.name, list(array.shape)) for array in arrays) as tensors:
            return self._call("feed", timeout_s, inputs=tensors)

    def _run(self, timeout_s: float, tensors: list[dict[str, Any]]) -> dict[str, Any]:
        given = ((base64.b64decode(tensor["data"]), tensor["dtype"], tensor["shape"]) for tensor in tensors)
        with self._served(given) as served:
            return self._call("run", timeout_s, inputs=served)

    @contextmanager
    def _served(self, tensors: Iterable[tuple[bytes, str, list[int]]]) -> Iterator[list[dict[str, Any]]]:
        """Have the page fetch content, dtype and shape of each tensor as a file of its own."""
        served = [
            {"url": self.page.add_file(content), "dtype": dtype, "shape": shape} for content, dtype, shape in tensors
        ]
        try:
            yield served
        finally:
            for tensor in served:
                self.page.drop_file(str(tensor["url"]))

    def _check_threads(self, threads: int) -> None:
        if threads > 1 and self.page.address.accelerator == "wasm" and not self.page.page_facts["isolated"]:
            raise DeviceError(
                f"{self.page.name}: {threads} threads were asked for, and this page has one: it is not isolated.",
                "Browsers give threads on https and localhost alone: use --threads 1, or adb reverse for a phone.",
            )

    def _call(self, name: str, timeout_s: float, runtime: WebRuntime | None = None, **given: Any) -> dict[str, Any]:
        reply = self.page.call(name, timeout_s, frame=self.number, **given)
        if "error" not in reply:
            return reply
        said = "".join(f"\n    {line}" for line in reply.get("console", []))
        if reply["kind"] == "ModelRefused" and runtime is not None:
            raise UnsupportedError(
                f"{self.artifact}: {runtime.name} {package_version(runtime.package)} cannot load it: "
                f"{reply['error']}{said}",
                _cure(runtime, str(reply["error"])),
            )
        if reply["kind"] == "RuntimeRefused":
            raise DeviceError(
                f"{self.artifact}: {self.page.name}: {reply['error']}{said}",
                "Take fewer: --threads N" if "threads" in reply["error"] else "",
            )
        raise StageError(f"{self.artifact}: {reply['error']}{said}")


def _cure(runtime: WebRuntime, error: str) -> str:
    if "lement type" in error and runtime.dtypes:
        return (
            f"{runtime.name} takes inputs and outputs of {', '.join(sorted(runtime.dtypes))} alone: "
            "build it for the target browser, which is int8 inside."
        )
    return "Build it for the target browser: edgekit build --target browser"
