"""The process on a device that holds the run's folder, and through which either side learns that the wire broke.

It echoes what it reads: a wire without an echo is silent, and taken for broken. When its stdin ends without a
farewell, it leaves agents and their results alone for a while, so that they can be fetched after reconnecting; then
it ends the agents, puts back what ``clocks`` changed, and removes the folder. What even the keeper could not clean
up (a power cut) the next run ends, puts back and removes first.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shlex
import time
from pathlib import Path
from queue import Empty
from typing import Protocol

from edgekit.devices.cures import full_disk
from edgekit.devices.pulse import Pulse
from edgekit.errors import DeviceError, EdgekitError, TimedOutError

_READY, _BUSY, _GONE = "@edgekit-ready ", "@edgekit-busy ", "@edgekit-gone"
_ATTACH_S = 25.0  # the wire's own time-out for a connection is 10 s; a first login may start services
_COME_BACK_S = 11.5  # after the last sign of life; a device that is gone is to be reported within 15 s
_PAUSE_S = 0.5
_GRACE_S = 15  # how long the device waits for this side: longer than this side tries


class Wire(Protocol):
    """How a script gets to a machine's shell."""

    name: str
    folder: str
    """The parent of run folders, as the remote shell expands it."""
    python: str
    """The Python the user named, or "" to look for one."""
    benchmark_model: Path | None
    """TFLite's own program for the device, a file of this machine, where the device has no Python."""
    accelerator: str
    """What ``benchmark_model`` is to use instead of the CPU, or ""."""
    tensorrt: bool
    """Whether TensorRT there is to run .onnx files, instead of ONNX Runtime."""

    def argv(self, script: str, *, keeper: bool = False) -> list[str]:
        """Return the local command that runs a POSIX shell script there, with stdin, stdout and stderr apart."""
        ...

    def revive(self, timeout_s: float) -> None:
        """Have whatever carries the wire look for the device again, where it does not do so by itself."""
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
        self._run = f"run-{secrets.token_hex(6)}"
        self._last_words: list[str] = []
        self._pulse = self._attached(_FIRST)
        try:
            self.folder = self._first_word(self._pulse, _ATTACH_S)
        except BaseException:
            self._pulse.end()
            wire.close()
            raise

    @property
    def is_silent(self) -> bool:
        """Whether the device has not echoed for so long that the wire must be broken."""
        return self._pulse.is_silent

    def last_words(self) -> list[str]:
        """Return what the wire wrote to stderr when it broke, after a moment in which it may notice that it did."""
        return self._last_words or self._pulse.last_words()

    def reconnect(self) -> bool:
        """Reach the device again, with its agents and results as they are; say whether that went well.

        Returns True at once where the wire is sound: then only the one command was lost.
        """
        if self._pulse.is_beating():
            return True
        self._last_words = self._pulse.last_words()
        self._pulse.end(patience_s=0.0)
        until = self._pulse.last_seen + _COME_BACK_S
        while (left := until - time.monotonic()) > 0:
            self.wire.revive(left)
            again = self._attached(_AGAIN)
            try:
                again_there = self._first_word(again, max(0.1, until - time.monotonic()))
            except EdgekitError:
                again.end(patience_s=0.0)
                time.sleep(_PAUSE_S)
                continue
            if not again_there:  # it was restarted, or waited too long
                again.end()
                return False
            self._pulse, self._last_words = again, []
            return True
        return False

    def close(self) -> None:
        """Let the device clean up, and close the wire."""
        self._pulse.end(farewell=True)
        self.wire.close()

    def _attached(self, script: str) -> Pulse:
        filled = script.format(
            folder=self.wire.folder, run=self._run, owner=shlex.quote(_owner()), ready=_READY, busy=_BUSY, gone=_GONE,
            grace=_GRACE_S,
        )  # fmt: skip
        return Pulse(self.wire.argv(filled, keeper=True))

    def _first_word(self, pulse: Pulse, timeout_s: float) -> str:
        """Wait for the folder's name; "" where the folder is gone."""
        while True:
            try:
                line = pulse.line(timeout_s)
            except Empty:
                raise TimedOutError(
                    f"{self.wire.name}: connected, but its shell did not start within {timeout_s:.0f} s",
                    f"try it by hand: {self.wire.by_hand('true')}",
                ) from None
            if line.startswith(_READY):
                pulse.start()
                return line[len(_READY) :]
            if line.startswith(_BUSY):
                raise DeviceError(
                    f"{self.wire.name}: {line[len(_BUSY) :]} is measuring there now",
                    "wait until that run is over: two runs at a time would slow each other down",
                )
            if line == _GONE:
                return ""
            if not line:
                raise self._never_started(pulse)

    def _never_started(self, pulse: Pulse) -> EdgekitError:
        status = pulse.end()
        said = pulse.last_words()
        if any("No space left" in line for line in said):
            return full_disk(self.wire.name, self.wire.folder)
        return self.wire.failure(status, said, attached=False)


def _owner() -> str:
    """Name who measures: a run left behind by the same user on the same machine may be ended."""
    return f"{getpass.getuser()}@{os.uname().nodename}"


# What belongs to a run names its folder in its command line: a random name. The brackets keep grep from finding
# itself. Keepers name it without the slash: they are ended by their stdin, or by another keeper.
_FUNCTIONS = """
umask 077
base={folder}
run={run}
named() {{ grep -l -e "$1[r]${{2#r}}" /proc/[0-9]*/cmdline 2> /dev/null; }}
finish() {{
    for p in $(named / "$1"); do
        p=${{p#/proc/}}
        kill -9 "${{p%/*}}" 2> /dev/null
    done
    [ -e "$base/$1/restore" ] && sh "$base/$1/restore" > /dev/null 2>&1
    rm -rf "${{base:?}}/$1"
}}
"""
_WATCH = """
trap '' HUP PIPE
cd "$base/$run" && echo $$ > keeper && echo "{ready}$(pwd)"
cd /
while read -r word; do
    [ "$word" = bye ] && finish "$run" && exit
    echo "$word"
done
i=0
while [ $i -lt {grace} ]; do
    sleep 1
    i=$((i + 1))
    [ "$(cat "$base/$run/keeper")" = $$ ] || exit
done
finish "$run"
"""
_FIRST = (
    _FUNCTIONS
    + """
mkdir -p "$base" || exit 1
for old in "$base"/run-*; do
    [ -d "$old" ] || continue
    old=${{old##*/}}
    owner=$(cat "$base/$old/owner" 2> /dev/null)
    [ "$owner" != {owner} ] && [ "$(named "" "$old")" ] && echo "{busy}$owner" && exit
    finish "$old"
done
mkdir "$base/$run" && echo {owner} > "$base/$run/owner" || exit 1
"""
    + _WATCH
)
_AGAIN = (
    _FUNCTIONS
    + """
[ -d "$base/$run" ] || {{ echo {gone}; exit; }}
"""
    + _WATCH
)
