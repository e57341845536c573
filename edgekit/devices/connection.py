"""Talk to an agent: one request, one reply, a deadline; a death comes with its signal and last words."""

from __future__ import annotations

import json
import signal
from collections import deque
from contextlib import suppress
from queue import Empty, Queue
from subprocess import Popen, TimeoutExpired
from threading import Thread
from types import TracebackType
from typing import IO, Any

from edgekit.errors import DependencyError, DeviceError, StageError
from edgekit.runtimes.agent import MARK

_LAST_LINES = 8
_GOODBYE_S = 2.0
_MISSING_LIBRARY = ("ImportError", "ModuleNotFoundError")


class Connection:
    """The process that runs one artifact; leaving the context ends it, at once after an error."""

    def __init__(self, process: Popen[bytes], artifact: str, device: str) -> None:
        self.process = process
        self.artifact = artifact
        self.device = device
        self._replies: Queue[str | None] = Queue()
        self._stderr: deque[str] = deque(maxlen=_LAST_LINES)
        self._readers = [
            Thread(target=self._read_replies, args=(process.stdout,), daemon=True),
            Thread(target=self._read_stderr, args=(process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self.process.returncode is None:
            self._say_goodbye()
        self._end()

    def ask(self, command: str, timeout_s: float, **arguments: Any) -> dict[str, Any]:
        """Send one command and return its reply.

        Raises DeviceError when the process died or is out of time, DependencyError when its runtime is
        missing, StageError when the command failed.
        """
        self._send({"command": command, **arguments})
        try:
            line = self._replies.get(timeout=timeout_s)
        except Empty:
            self._end()
            raise DeviceError(
                f"{self.artifact}: no answer to {command!r} on {self.device} within {timeout_s:.0f} s"
                f"{self._last_words()}",
                "the model hangs there or is far slower than expected; the process was killed",
            ) from None
        if line is None:
            raise self._death(command)
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            if reply.get("kind") in _MISSING_LIBRARY:
                raise DependencyError(
                    f"{self.artifact}: its runtime is missing on {self.device}: {reply['error']}",
                    "install it for the Python that runs there",
                )
            raise StageError(f"{self.artifact}: {reply['error']}")
        return reply

    def _send(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it died: the missing reply says so, with the reason
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def _death(self, command: str) -> DeviceError:
        try:
            status = self.process.wait(_GOODBYE_S)
        except TimeoutExpired:
            self._end()
            return DeviceError(f"{self.artifact}: the process on {self.device} closed its output")
        for reader in self._readers:
            reader.join(_GOODBYE_S)
        hint = "the kernel kills with SIGKILL when memory runs out" if status == -signal.SIGKILL else ""
        return DeviceError(
            f"{self.artifact}: the process on {self.device} {describe_exit(status)} during {command!r}"
            f"{self._last_words()}",
            hint,
        )

    def _last_words(self) -> str:
        return "".join(f"\n    {line}" for line in self._stderr)

    def _say_goodbye(self) -> None:
        self._send({"command": "quit"})
        with suppress(TimeoutExpired):
            self.process.wait(_GOODBYE_S)

    def _end(self) -> None:
        """Kill and reap the process and close its pipes; does nothing the second time."""
        self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join(_GOODBYE_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()

    def _read_replies(self, stream: IO[bytes]) -> None:
        for raw in stream:
            line = raw.decode("utf-8", "replace")
            if line.startswith(MARK):
                self._replies.put(line[len(MARK) :])
        self._replies.put(None)

    def _read_stderr(self, stream: IO[bytes]) -> None:
        for raw in stream:
            self._stderr.append(raw.decode("utf-8", "replace").rstrip())


def describe_exit(status: int) -> str:
    """Say how a process ended, from Popen's return code: negative is the number of a signal."""
    if status < 0:
        name = next((known.name for known in signal.Signals if known == -status), f"signal {-status}")
        return f"was killed by {name}"
    return f"ended with exit code {status}"
