"""A machine with a shell at the end of a wire (ssh, adb): verified files, agents with a known end."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shlex
import subprocess
import tempfile
import time
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from edgekit.artifact import digest
from edgekit.devices import clocks, shell_facts
from edgekit.devices.benchmark import BenchmarkSession
from edgekit.devices.connection import EXIT_MARK, Connection, crashed, last_words
from edgekit.devices.cures import full_disk, missing_python, missing_runtime
from edgekit.devices.keeper import Keeper, Wire
from edgekit.devices.tensorrt import TrtexecSession
from edgekit.errors import DeviceError, EdgekitError, TimedOutError
from edgekit.runtimes import AGENT, FACTS
from edgekit.runtimes.facts import MARK

_COMMAND_S = 60.0
_LOOK_S = 0.5
_SLOWEST_BYTES_PER_S = 100_000
_SHELL_SIGNAL = 128  # a shell reports a program killed by signal n as 128 + n


@dataclass(frozen=True)
class Ended:
    """A finished remote command: its own exit status as the shell there has it, and what it wrote."""

    status: int
    stdout: bytes
    stderr: list[str]


class ShellDevice:
    """A device behind a wire. Files and agents live in one folder there that does not outlive the context."""

    place: Literal["host", "device"] = "device"

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.name = wire.name
        self.python = ""
        self.machine = ""
        self._pushed: dict[str, str] = {}
        self._numbers = count(1)
        self._keeper: Keeper | None = None
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> ShellDevice:
        self._lock = _wait_for_lock(self.name)
        try:
            self._keeper = Keeper(self.wire)
        except BaseException:
            self._lock.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._keeper is not None and self._lock is not None:
            self._keeper.close()
            self._lock.close()

    @property
    def program_sha256(self) -> str:
        return digest(self.wire.benchmark_model) if self.wire.benchmark_model else ""

    @property
    def run_folder(self) -> str:
        """The folder there that holds everything of this run."""
        return self._there.folder

    @property
    def _there(self) -> Keeper:
        assert self._keeper is not None, "the device's context was not entered"
        return self._keeper

    def describe(self) -> dict[str, Any]:
        """Return its facts of now. Raises RuntimeMissingError where it has no Python, nor a program instead."""
        if self.wire.benchmark_model:
            done = self.run(shell_facts.SCRIPT)
            return shell_facts.facts(done.stdout.decode("utf-8", "replace"))
        if not self.python:
            self._find_python()
        found = self.run(f"{shlex.quote(self.python)} {shlex.quote(self.push(FACTS))}")
        for line in found.stdout.decode("utf-8", "replace").splitlines():
            if found.status == 0 and line.startswith(MARK):
                facts: dict[str, Any] = json.loads(line[len(MARK) :])
                self.machine = str(facts["machine"])
                return facts
        raise DeviceError(
            f"{self.name}: {self.python} cannot say what machine it is on{last_words(found.stderr)}",
            "edgekit needs Python 3.9 or newer there",
        )

    def lock_clocks(self) -> str:
        """Set its clocks to their highest until the context is left; return what was before."""
        return clocks.lock(self)

    def connect(self, artifact: str, script: Path = AGENT) -> Connection | BenchmarkSession | TrtexecSession:
        """Start an agent in the run's folder, under a shell that reports how it ended; or use the named program."""
        if self.wire.tensorrt:
            return TrtexecSession(self, artifact, self.run_folder)
        if self.wire.benchmark_model:
            return BenchmarkSession(self, artifact, self.wire.benchmark_model, self.wire.accelerator)
        if not self.python:
            self._find_python()
        agent = self.push(script)
        session = f"{script.stem}-{next(self._numbers)}"
        return Connection(self._reach(session, agent), artifact, self, session)

    @property
    def is_silent(self) -> bool:
        """Whether it has not been heard of for so long that the wire must be broken."""
        return self._there.is_silent

    def resume(self, session: str) -> subprocess.Popen[bytes] | None:
        """Reach the device again, and the agent that went on there meanwhile."""
        return self._reach(session) if self._there.reconnect() else None

    def kill(self, session: str) -> None:
        """End an agent that does not listen."""
        self.run(f"kill -9 $(cat {self._quoted()}/{session}.pid)")

    def _reach(self, session: str, agent: str = "") -> subprocess.Popen[bytes]:
        """Start an agent there, or without ``agent`` reach the one that was started before."""
        start = _START.format(session=session, python=shlex.quote(self.python), agent=agent) if agent else ""
        return subprocess.Popen(
            self.wire.argv(f"cd {self._quoted()} || exit\n{start}{_REACH.format(session=session)}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def push(self, path: Path) -> str:
        """Copy a file there once and return its path there; its sha256 is taken there, never its size.

        A full disk can leave a file of the right length: sftp writes out of order. Raises NoSpaceError.
        """
        sha256 = digest(path)
        if sha256 not in self._pushed:
            there = f"{self.run_folder}/{sha256[:16]}-{re.sub(r'[^A-Za-z0-9_.-]', '_', path.name)}"
            quoted = shlex.quote(there)
            patience_s = _COMMAND_S + path.stat().st_size / _SLOWEST_BYTES_PER_S
            with path.open("rb") as content:
                # Read also what the disk does not take: adb loses the last words of a shell that stops reading.
                script = f"cat > {quoted} && sha256sum {quoted}; s=$?; cat > /dev/null; exit $s"
                done = self.run(script, patience_s, content)
            self._check_copy(path, sha256, done)
            self._pushed[sha256] = there
        return self._pushed[sha256]

    def run(
        self, script: str, timeout_s: float = _COMMAND_S, stdin: IO[bytes] | None = None, *, once: bool = False
    ) -> Ended:
        """Run a shell script there to its end. Raises DroppedError when the end did not arrive here.

        Where the connection breaks and comes back, the script is run again, unless it is to be run ``once``: then
        it goes on there, and what it came to is fetched.
        """
        program = script.split()[0]
        if once:
            script = _ONCE.format(folder=self._quoted(), name=f"once-{next(self._numbers)}", script=script)
        command = self.wire.argv(f"({script}); {_SAY_STATUS}")
        end = time.monotonic() + timeout_s
        while True:
            status, stdout, stderr = self._to_its_end(command, end, stdin)
            if status is None:
                raise TimedOutError(f"{self.name}: no end of {program!r} within {timeout_s:.0f} s")
            said, mark, ended = stdout.rpartition(b"\n" + EXIT_MARK.encode())
            if mark:
                return Ended(int(ended), said, stderr)
            if not self._there.reconnect():
                raise self._lost(status, stderr)
            if stdin:
                stdin.seek(0)

    def _to_its_end(
        self, command: list[str], end: float, stdin: IO[bytes] | None
    ) -> tuple[int | None, bytes, list[str]]:
        """Return status, stdout and stderr of one command of the wire; the status is None when out of time."""
        with subprocess.Popen(
            command, stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            while True:
                try:
                    stdout, stderr = process.communicate(timeout=_LOOK_S)
                except subprocess.TimeoutExpired:
                    if not self._there.is_silent and time.monotonic() < end:
                        continue
                    process.kill()
                    stdout, stderr = process.communicate()
                late = time.monotonic() >= end and process.returncode < 0
                return None if late else process.returncode, stdout, stderr.decode("utf-8", "replace").splitlines()

    def missing_library(self, artifact: str, error: str, format: str) -> EdgekitError:
        """Return the error for a runtime that is not installed there, with the command that installs it."""
        return missing_runtime(self.name, artifact, error, format, self.machine, self.wire.by_hand)

    def death(self, artifact: str, command: str, status: int, exit_mark: int | None, stderr: list[str]) -> EdgekitError:
        """Tell a program that died there from a wire that broke: only the first left its exit status."""
        if exit_mark is None:
            lost = self._lost(status, stderr)
            return type(lost)(f"{artifact}, during {command!r}: {lost.message}", lost.hint)
        killed = exit_mark > _SHELL_SIGNAL and exit_mark != 255
        return crashed(artifact, command, self.name, _SHELL_SIGNAL - exit_mark if killed else exit_mark, stderr)

    def _find_python(self) -> None:
        wanted = [self.wire.python] if self.wire.python else ['"$HOME/edgekit/bin/python3"', "python3", "python"]
        looking = " || ".join(f"command -v {name}" for name in wanted)
        found = self.run(looking)
        self.python = found.stdout.decode().strip()
        if found.status or not self.python:
            raise missing_python(self.name, self.wire.python, self.wire.by_hand)

    def _check_copy(self, path: Path, sha256: str, done: Ended) -> None:
        if any("No space left" in line for line in done.stderr):
            raise full_disk(self.name, self.run_folder, path, self._free_bytes())
        if done.status:
            raise DeviceError(f"{self.name}: cannot write {path.name} there{last_words(done.stderr)}")
        if (there := done.stdout.decode().split()[:1]) != [sha256]:
            raise DeviceError(f"{self.name}: {path.name} arrived damaged: sha256 {there} there, {sha256} here")

    def _free_bytes(self) -> int | None:
        """Return the free bytes of the disk that holds the run's folder, None where df does not say."""
        found = self.run(f"df -Pk {self._quoted()}")
        columns = found.stdout.decode("utf-8", "replace").splitlines()[-1:]
        fields = columns[0].split() if columns else []
        return int(fields[3]) * 1024 if len(fields) > 3 and fields[3].isdigit() else None

    def _lost(self, status: int, stderr: list[str]) -> EdgekitError:
        """Say why the wire broke: the keeper's words, then the command's."""
        return self.wire.failure(status, [*self._there.last_words(), *stderr], attached=True)

    def _quoted(self) -> str:
        return shlex.quote(self.run_folder)


def _wait_for_lock(name: str) -> IO[bytes]:
    """Take turns with other edgekit processes of this user: one run at a time per device."""
    short = hashlib.sha256(name.encode()).hexdigest()[:16]
    file = os.open(f"{tempfile.gettempdir()}/edgekit-{os.getuid()}-{short}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    lock = os.fdopen(file, "ab")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


_SAY_STATUS = f"s=$?; printf '\\n{EXIT_MARK}%s\\n' $s"

# An agent talks through two named pipes, which it holds open itself, so that it outlives the wire: a lost reader costs
# it nothing. Where the folder takes none (some phones), it lives and dies with the wire.
_START = f"""
mkfifo {{session}}.in {{session}}.out 2> /dev/null || {{{{ {{python}} {{agent}}; {_SAY_STATUS}exit; }}}}
(
    trap '' HUP
    exec 5<> {{session}}.out
    {{python}} {{agent}} <> {{session}}.in >&5 2> {{session}}.err &
    p=$!
    echo $p > {{session}}.pid
    wait $p
    s=$?
    echo $s > {{session}}.exit
    printf '\\n{EXIT_MARK}%s\\n' $s >&5
) < /dev/null > /dev/null 2>&1 &
"""
# One reader at a time: one that was left behind by a wire that broke unnoticed would take replies away.
_REACH = f"""
here=$(pwd)
reads() {{{{ tr '\\0' ' ' < "/proc/$1/cmdline" 2> /dev/null | grep -q "^cat $here/"; }}}}
for p in $(cat {{session}}.readers 2> /dev/null); do reads "$p" && kill "$p"; done
exec 3<&0 6<> {{session}}.out 7<> {{session}}.in
cat "$here/{{session}}.out" &
r=$!
echo $r > {{session}}.readers
[ -e {{session}}.exit ] && printf '\\n{EXIT_MARK}%s\\n' "$(cat {{session}}.exit)"
cat <&3 >&7
kill $r
tail -n 8 {{session}}.err >&2
"""
# The first to come runs it, whoever comes after a broken connection waits for it.
_ONCE = """cd {folder} || exit
if mkdir {name} 2> /dev/null; then
    trap '' HUP PIPE
    ({script}) > {name}/out 2> {name}/err < /dev/null
    echo $? > {name}/.exit && mv {name}/.exit {name}/exit
else
    while [ ! -e {name}/exit ]; do sleep 1; done
fi
cat {name}/out; cat {name}/err >&2; exit "$(cat {name}/exit)"
"""
