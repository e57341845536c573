"""Talk to an agent: one request, one reply, a deadline; a death comes with its signal and last words."""

from __future__ import annotations

import json
import signal
from collections import deque
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from subprocess import Popen, TimeoutExpired
from threading import Thread
from types import TracebackType
from typing import IO, Any, Protocol

from edgekit.errors import CrashedError, DeviceError, EdgekitError, StageError, TimedOutError
from edgekit.runtimes import ops_file, runtime_file
from edgekit.runtimes.agent import MARK

EXIT_MARK = "@edgekit-exit "
"""A remote shell writes this line behind everything else, with the program's exit status as the shell has it."""

_LAST_LINES = 8
_GOODBYE_S = 2.0
_MISSING_LIBRARY = ("ImportError", "ModuleNotFoundError")
_FILE_OF_THE_FORMAT = {"load": ("runtime", runtime_file), "ops": ("script", ops_file)}


class Remote(Protocol):
    """What a connection asks of the machine that its process runs on."""

    name: str

    def push(self, path: Path) -> str:
        """Make a file available there and return its path there."""
        ...

    def missing_library(self, artifact: str, error: str, format: str) -> EdgekitError:
        """Return the error for a runtime that is not installed there."""
        ...

    def death(self, artifact: str, command: str, status: int, exit_mark: int | None, stderr: list[str]) -> EdgekitError:
        """Return the error for a process that ended without a reply, with ``status`` as Popen has it.

        ``exit_mark`` is what the remote shell said of the program's end, None where it said nothing.
        """
        ...


class Connection:
    """The process that runs one artifact; leaving the context ends it, at once after an error."""

    def __init__(self, process: Popen[bytes], artifact: str, remote: Remote) -> None:
        self.process = process
        self.artifact = artifact
        self.remote = remote
        self._format = ""
        self._exit_mark: int | None = None
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
        """Send one command and return its reply; see ``edgekit.devices.Session``.

        Raises DeviceError when the process died or is out of time, DependencyError (or RuntimeMissingError on
        a device) when its runtime is missing, StageError when the command failed.
        """
        self._send({"command": command, **self._brought_there(command, arguments)})
        try:
            line = self._replies.get(timeout=timeout_s)
        except Empty:
            self._end()
            raise TimedOutError(
                f"{self.artifact}: no answer to {command!r} on {self.remote.name} within {timeout_s:.0f} s"
                f"{last_words(self._stderr)}",
                "the model hangs there or is far slower than expected; the process was killed",
            ) from None
        if line is None:
            raise self._death(command)
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            if reply.get("kind") in _MISSING_LIBRARY:
                raise self.remote.missing_library(self.artifact, str(reply["error"]), self._format)
            raise StageError(f"{self.artifact}: {reply['error']}")
        return reply

    def _brought_there(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Replace files by their paths on the device; add the module that the format needs there."""
        if command in _FILE_OF_THE_FORMAT:
            argument, file_of = _FILE_OF_THE_FORMAT[command]
            self._format = arguments["format"]
            arguments = {**arguments, argument: file_of(self._format)}
            del arguments["format"]
        return {
            name: self.remote.push(value) if isinstance(value, Path) else value for name, value in arguments.items()
        }

    def _send(self, request: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it died: the missing reply says so, with the reason
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()

    def _death(self, command: str) -> EdgekitError:
        try:
            status = self.process.wait(_GOODBYE_S)
        except TimeoutExpired:
            self._end()
            return DeviceError(f"{self.artifact}: the process on {self.remote.name} closed its output")
        for reader in self._readers:
            reader.join(_GOODBYE_S)
        said = list(self._stderr)
        if missing := next((line for line in said if line.startswith(_MISSING_LIBRARY)), ""):
            return self.remote.missing_library(self.artifact, missing, self._format)
        return self.remote.death(self.artifact, command, status, self._exit_mark, said)

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
            elif line.startswith(EXIT_MARK):
                self._exit_mark = int(line[len(EXIT_MARK) :])
        self._replies.put(None)

    def _read_stderr(self, stream: IO[bytes]) -> None:
        for raw in stream:
            self._stderr.append(raw.decode("utf-8", "replace").rstrip())


def crashed(artifact: str, command: str, device: str, status: int, stderr: list[str]) -> CrashedError:
    """Return the error for a program that died by itself; ``status`` is Popen's: negative for a signal."""
    hint = "the kernel kills with SIGKILL when memory runs out" if status == -signal.SIGKILL else ""
    return CrashedError(
        f"{artifact}: the process on {device} {describe_exit(status)} during {command!r}{last_words(stderr)}", hint
    )


def last_words(stderr: deque[str] | list[str]) -> str:
    """Return the end of what a program wrote to stderr, each line indented on a line of its own."""
    return "".join(f"\n    {line}" for line in stderr)


def describe_exit(status: int) -> str:
    """Say how a process ended, from Popen's return code: negative is the number of a signal."""
    if status < 0:
        name = next((known.name for known in signal.Signals if known == -status), f"signal {-status}")
        return f"was killed by {name}"
    return f"ended with exit code {status}"
