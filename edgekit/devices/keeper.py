"""The process on a device that holds the run's folder, and through which the wire says that it broke.

It reads its stdin; when that ends, because this side is done, was killed or lost the wire, it ends the agents
and removes the folder. What even the keeper could not clean up (a power cut) the next run ends and removes first.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shlex
import subprocess
from collections import deque
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import Protocol

from edgekit.devices.cures import full_disk
from edgekit.errors import DeviceError, EdgekitError, TimedOutError

_READY, _BUSY = "@edgekit-ready ", "@edgekit-busy "
_ATTACH_S = 25.0  # the wire's own time-out for a connection is 10 s; a first login may start services
_END_S = 5.0
_LAST_LINES = 20


class Wire(Protocol):
    """How a script gets to a machine's shell."""

    name: str
    folder: str
    """The parent of run folders, as the remote shell expands it."""
    python: str
    """The Python the user named, or "" to look for one."""
    benchmark_model: Path | None
    """TFLite's own program for the device, a file of this machine, where the device has no Python."""
    tensorrt: bool
    """Whether TensorRT there is to run .onnx files, instead of ONNX Runtime."""

    def argv(self, script: str, *, keeper: bool = False) -> list[str]:
        """Return the local command that runs a POSIX shell script there, with stdin, stdout and stderr apart."""
        ...

    def failure(self, status: int, stderr: list[str], *, attached: bool) -> EdgekitError:
        """Say why the wire's command ended without the remote shell's last line."""
        ...

    def by_hand(self, command: str) -> str:
        """Return what a user types on this machine to run a command there."""
        ...

    def close(self) -> None: ...


class Keeper:
    """The run's folder on the device, for as long as this object is open."""

    def __init__(self, wire: Wire) -> None:
        """Make the folder, after ending what a lost run left. Raises the wire's errors, NoSpaceError, DeviceError."""
        self.wire = wire
        self.folder = ""
        run = f"run-{secrets.token_hex(6)}"
        script = _KEEP.format(folder=wire.folder, run=run, owner=shlex.quote(_owner()), ready=_READY, busy=_BUSY)
        self._process = subprocess.Popen(
            wire.argv(script, keeper=True), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._said: deque[str] = deque(maxlen=_LAST_LINES)
        self._lines: Queue[str] = Queue()
        self._readers = [Thread(target=self._read_stderr, daemon=True), Thread(target=self._read_stdout, daemon=True)]
        for reader in self._readers:
            reader.start()
        try:
            self.folder = self._first_word()
        except BaseException:
            self.close()
            raise

    def last_words(self) -> list[str]:
        """Return what the wire wrote to stderr, after a moment in which it may notice that it broke."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(1.0)
            self._readers[0].join(_END_S)
        return list(self._said)

    def close(self) -> None:
        """Let the device clean up, and close the wire."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._end()
        for reader in self._readers:
            reader.join(_END_S)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self.wire.close()

    def _first_word(self) -> str:
        """Wait for the folder's name."""
        while True:
            try:
                line = self._lines.get(timeout=_ATTACH_S)
            except Empty:
                raise TimedOutError(
                    f"{self.wire.name}: connected, but its shell did not start within {_ATTACH_S:.0f} s",
                    f"try it by hand: {self.wire.by_hand('true')}",
                ) from None
            if line.startswith(_READY):
                return line[len(_READY) :]
            if line.startswith(_BUSY):
                raise DeviceError(
                    f"{self.wire.name}: {line[len(_BUSY) :]} is measuring there now",
                    "wait until that run is over: two runs at a time would slow each other down",
                )
            if not line:
                raise self._never_started()

    def _never_started(self) -> EdgekitError:
        status = self._end()
        self._readers[0].join(_END_S)
        if any("No space left" in line for line in self._said):
            return full_disk(self.wire.name, self.wire.folder)
        return self.wire.failure(status, list(self._said), attached=False)

    def _end(self) -> int:
        try:
            return self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _read_stdout(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            if line := raw.decode("utf-8", "replace").rstrip():
                self._lines.put(line)
        self._lines.put("")

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        for raw in self._process.stderr:
            self._said.append(raw.decode("utf-8", "replace").rstrip())


def _owner() -> str:
    """Name who measures: a run left behind by the same user on the same machine may be ended."""
    return f"{getpass.getuser()}@{os.uname().nodename}"


# The kernel may have given a remembered process id to someone else: only one that was started in that folder counts.
_KEEP = """
umask 077
base={folder}
mkdir -p "$base" || exit 1
living() {{ tr '\\0' ' ' < "/proc/$1/cmdline" 2> /dev/null | grep -q -e "$2"; }}
finish() {{
    for p in $(cat "$base/$1/pids" 2> /dev/null); do
        [ "$p" != $$ ] && living "$p" "$1" && kill -9 "$p" 2> /dev/null
    done
    rm -rf "$base/$1"
}}
for old in "$base"/run-*; do
    [ -d "$old" ] || continue
    old=${{old##*/}}
    owner=$(cat "$base/$old/owner" 2> /dev/null)
    if [ "$owner" != {owner} ]; then
        for p in $(cat "$base/$old/pids" 2> /dev/null); do
            living "$p" "$old" && echo "{busy}$owner" && exit 0
        done
    fi
    finish "$old"
done
mkdir "$base/{run}" && echo {owner} > "$base/{run}/owner" && echo $$ > "$base/{run}/pids" || exit 1
trap '' HUP PIPE
cd "$base/{run}" && echo "{ready}$(pwd)"
cd /
cat > /dev/null
finish {run}
"""
