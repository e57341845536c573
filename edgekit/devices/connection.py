"""Talk to an agent: one request, one reply, a deadline; a death comes with its signal and last words."""

from __future__ import annotations

import json
import signal
import time
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
from edgekit.runtimes.agent import MARK, QUIT

EXIT_MARK = "@edgekit-exit "
"""A remote shell writes this line behind everything else, with the program's exit status as the shell has it."""

_LAST_LINES = 8
_GOODBYE_S = 2.0
_LOOK_S = 0.5
_MOST_RETURNS = 3  # to one question, whose process dies again and again without a word
_MISSING_LIBRARY = ("ImportError", "ModuleNotFoundError")
_FILE_OF_THE_FORMAT = {"load": ("runtime", runtime_file), "ops": ("script", ops_file)}


class Remote(Protocol):
    """What a connection asks of the machine that its process runs on."""

    name: str

    @property
    def is_silent(self) -> bool:
        """Whether the machine has not been heard of for so long that the wire to it must be broken."""
        ...

    def resume(self, session: str) -> Popen[bytes] | None:
        """Reach a process again whose wire broke; None where it is lost, or there was no wire."""
        ...

    def kill(self, session: str) -> None:
        """End a process that does not listen."""
        ...

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
    """The process that runs one artifact; leaving the context ends it, at once after an error.

    ``session`` names it on its machine where it outlives the wire to it, else it is "".
    """

    def __init__(self, process: Popen[bytes], artifact: str, remote: Remote, session: str = "") -> None:
        self.artifact = artifact
        self.remote = remote
        self.session = session
        self._format = ""
        self._questions = 0
        self._exit_mark: int | None = None
        self._replies: Queue[str | None] = Queue()
        self._stderr: deque[str] = deque(maxlen=_LAST_LINES)
        self._listen(process)

    def _listen(self, process: Popen[bytes]) -> None:
        self.process = process
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
        if self.process.returncode is None and (kind is None or self.session):
            self._say_goodbye()
        self._end()

    def ask(self, command: str, timeout_s: float, **arguments: Any) -> dict[str, Any]:
        """Send one command and return its reply; see ``edgekit.devices.Session``.

        Raises DeviceError when the process died or is out of time, DependencyError (or RuntimeMissingError on
        a device) when its runtime is missing, StageError when the command failed.
        """
        self._questions += 1
        request = {"id": self._questions, "command": command, **self._brought_there(command, arguments)}
        reply = self._answer(json.dumps(request).encode() + b"\n", command, timeout_s)
        if "error" in reply:
            if reply.get("kind") in _MISSING_LIBRARY:
                raise self.remote.missing_library(self.artifact, str(reply["error"]), self._format)
            raise StageError(f"{self.artifact}: {reply['error']}")
        return reply

    def _answer(self, request: bytes, command: str, timeout_s: float) -> dict[str, Any]:
        """Return the reply to a request, also where the wire broke meanwhile: what asks again gets what is finished."""
        self._send(request)
        end = time.monotonic() + timeout_s
        returns = 0
        while (left := end - time.monotonic()) > 0:
            try:
                line = self._replies.get(timeout=min(left, _LOOK_S))
            except Empty:
                if self.remote.is_silent:
                    self.process.kill()
                continue
            if line is None:
                again = (
                    self.remote.resume(self.session) if self._exit_mark is None and returns < _MOST_RETURNS else None
                )
                if again is None:
                    raise self._death(command)
                returns += 1
                self._end()
                self._listen(again)
                self._send(b"\n" + request)  # the line break ends what may have been cut off
                continue
            reply: dict[str, Any] = json.loads(line)
            if reply.pop("id", self._questions) == self._questions:
                return reply
        self._say_goodbye()
        self.remote.kill(self.session)
        self._end()
        raise TimedOutError(
            f"{self.artifact}: no answer to {command!r} on {self.remote.name} within {timeout_s:.0f} s"
            f"{last_words(self._stderr)}",
            "the model hangs there or is far slower than expected; the process was killed",
        )

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

    def _send(self, request: bytes) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it died: the missing reply says so, with the reason
            self.process.stdin.write(request)
            self.process.stdin.flush()

    def _death(self, command: str) -> EdgekitError:
        self._hang_up()
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
        self._send(QUIT + b"\n")
        self._hang_up()
        with suppress(TimeoutExpired):
            self.process.wait(_GOODBYE_S)

    def _hang_up(self) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()

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
                break
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
