"""A board over ssh, with the user's own ssh program: its config, agent, jump hosts and known hosts hold.

``EDGEKIT_SSH`` replaces the program, with options: ``EDGEKIT_SSH="ssh -F other_config"``.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import tempfile
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from edgekit.devices.connection import last_words
from edgekit.devices.pulse import SILENCE_S
from edgekit.devices.shell import ShellDevice
from edgekit.errors import (
    DependencyError,
    DeviceError,
    DroppedError,
    HostKeyError,
    RecipeError,
    UnauthorizedError,
    UnreachableError,
)  # fmt: skip

PROGRAM = "EDGEKIT_SSH"
# The keeper's echo notices a frozen board first; these end an ssh that nobody watches.
_OPTIONS = ("BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=3", "ServerAliveCountMax=3")

# OpenSSH's own words (9.2); exit code 255 alone says nothing.
_FAILURES: tuple[tuple[str, type[DeviceError], str, str], ...] = (
    (
        "REMOTE HOST IDENTIFICATION HAS CHANGED", HostKeyError, "it is not the machine that known_hosts remembers",
        "If you set it up anew: ssh-keygen -R {known}, then connect once by hand: {by_hand}. If not, somebody may sit "
        "in between: do not connect.",
    ),
    (
        "Host key verification failed|host key is known", HostKeyError, "its host key is not known yet",
        "Connect once by hand and compare the fingerprint: {by_hand}",
    ),
    (
        "Permission denied|Too many authentication failures", UnauthorizedError, "it refuses your key",
        "edgekit asks for no password. Give it your key: ssh-copy-id {port}{login}; one with a passphrase: ssh-add",
    ),
    (
        "Could not resolve hostname", UnreachableError, "no such host",
        "Check the name, or use the address: ssh://{user}ADDRESS",
    ),
    (
        "Connection refused", UnreachableError, "nothing listens there",
        "Switch ssh on there, or name its port: ssh://{login}:PORT. On a Raspberry Pi: sudo systemctl enable --now ssh",
    ),
    (
        "timed out|No route to host|Network is unreachable|Host is down", UnreachableError, "no answer",
        "Check that it is switched on and in this network: ping {host}",
    ),
    (
        "not responding", DroppedError, f"it answered nothing for {SILENCE_S:.0f} s",
        "It froze, or the network broke: check its power supply and cable, then run this again.",
    ),
)  # fmt: skip


class SshWire:
    """The ssh program, with one connection that all commands share."""

    accelerator = ""
    folder = '"${XDG_CACHE_HOME:-$HOME/.cache}"/edgekit'

    def __init__(self, name: str) -> None:
        address = urlsplit(name)
        try:
            port = address.port
        except ValueError as error:
            raise RecipeError(f"{name}: the port is not a number", "ssh://user@host:22") from error
        query = parse_qs(address.query, strict_parsing=True) if address.query else {}
        if not address.hostname or address.path.strip("/") or address.password or set(query) - {"python", "runtime"}:
            raise RecipeError(f"{name} is no address of a device", "ssh://user@host[:port][?python=/path/to/python3]")
        self.host = address.hostname
        self.login = f"{address.username}@{self.host}" if address.username else self.host
        self.port = port
        self.name = f"ssh://{self.login}" + (f":{port}" if port else "")
        self.python = query.get("python", [""])[-1]
        if (runtime := query.get("runtime", ["tensorrt"])[-1]) != "tensorrt":
            raise RecipeError(
                f"{name}: no runtime {runtime!r} can be chosen", "the one that can be is ?runtime=tensorrt"
            )
        self.tensorrt = "runtime" in query
        self.benchmark_model: Path | None = None
        self._program = shlex.split(os.environ.get(PROGRAM, "")) or ["ssh"]
        self._folder = ""
        self._masters = 0

    def argv(self, script: str, *, keeper: bool = False) -> list[str]:
        """Return the ssh command; the keeper's is the one whose connection the others use."""
        if not shutil.which(self._program[0]):
            raise DependencyError(
                f"there is no program {self._program[0]}", "install it: sudo apt install openssh-client"
            )
        if not self._folder:
            self._folder = tempfile.mkdtemp(prefix="edgekit-")  # only this user may enter it
        self._masters += keeper  # the socket of a connection that broke may still be there
        options = [
            *_OPTIONS,
            f"ControlPath={self._folder}/{self._masters}",
            f"ControlMaster={'yes' if keeper else 'no'}",
        ]
        flags = [word for option in options for word in ("-o", option)]
        port = ["-p", str(self.port)] if self.port else []
        # The login shell may be any: what it gets is one quoted word for sh.
        return [*self._program, "-T", *flags, *port, "--", self.login, f"exec sh -c {shlex.quote(script)}"]

    def revive(self, timeout_s: float) -> None:
        """Do nothing: every ssh connects anew."""

    def failure(self, status: int, stderr: list[str], *, attached: bool) -> DeviceError:
        """Tell the kinds of failure apart by ssh's words."""
        said = "\n".join(stderr)
        known = f"'[{self.host}]:{self.port}'" if self.port and self.port != 22 else self.host
        user = f"{self.login.rpartition('@')[0]}@" if "@" in self.login else ""
        for pattern, kind, what, cure in _FAILURES:
            if attached and kind is not DroppedError:
                continue  # what ssh says of coming back is not what happened
            if re.search(pattern, said):
                hint = cure.format(
                    known=known, login=self.login, host=self.host, user=user, by_hand=self.by_hand(""),
                    port=f"-p {self.port} " if self.port else "",
                )  # fmt: skip
                return kind(f"{self.name}: {what}{last_words(stderr[-2:])}", hint)
        if attached:
            return DroppedError(
                f"{self.name}: the connection was lost{last_words(stderr[-2:])}",
                "Is it still switched on and in this network? Run this again when it is.",
            )
        return UnreachableError(
            f"{self.name}: ssh ended with exit code {status}{last_words(stderr[-4:])}",
            f"try it by hand: {self.by_hand('true')}",
        )

    def by_hand(self, command: str) -> str:
        """Return the ssh command line a user types."""
        words = [*self._program, *(["-p", str(self.port)] if self.port else []), self.login]
        return shlex.join([*words, *([command] if command else [])])

    def close(self) -> None:
        """Remove the folder of the shared connection's socket."""
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)  # ssh removes its socket meanwhile
            self._folder = ""


def open_device(name: str) -> ShellDevice:
    """Return the device at ``ssh://user@host[:port]``. Raises RecipeError for another form."""
    return ShellDevice(SshWire(name))
