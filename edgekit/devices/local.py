"""This machine as a device: nothing is copied, agents are child processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from edgekit.devices.connection import Connection, crashed
from edgekit.errors import ClocksError, CrashedError, DependencyError
from edgekit.runtimes import AGENT
from edgekit.runtimes.agent import PARENT
from edgekit.runtimes.facts import facts


class LocalDevice:
    """The host. Its figures are the host's: never a board's."""

    name = "local"
    place: Literal["host", "device"] = "host"
    is_silent = False
    program_sha256 = ""

    def __enter__(self) -> LocalDevice:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def describe(self) -> dict[str, Any]:
        """Return the facts of this machine, with the load of now."""
        return facts()

    def lock_clocks(self) -> str:
        """Raise ClocksError: this machine is not edgekit's to set."""
        raise ClocksError(
            "The clocks of this machine are left alone.", "--lock-clocks is for boards: --device ssh://..."
        )

    def connect(self, artifact: str, script: Path = AGENT) -> Connection:
        """Start an agent with this Python, outside the terminal's process group.

        Ctrl-C thus reaches edgekit alone, which ends its children in order. An agent also dies with the
        thread that calls this.
        """
        process = subprocess.Popen(
            # -P: the script's folder holds litert.py and ort.py, which must not stand in for packages.
            [sys.executable, "-P", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, PARENT: str(os.getpid())},
        )
        return Connection(process, artifact, self)

    def push(self, path: Path) -> str:
        """Return the absolute path: the file is here already."""
        return str(path.resolve())

    def resume(self, session: str) -> None:
        """Return None: an agent here has no wire that could break."""

    def kill(self, session: str) -> None:
        """Leave that to whoever holds the process: it is a child."""

    def missing_library(self, artifact: str, error: str, format: str) -> DependencyError:
        """Return the error for a runtime that this Python lacks."""
        return DependencyError(
            f"{artifact}: its runtime is missing on {self.name}: {error}",
            "install edgekit again with its pinned dependencies",
        )

    def death(self, artifact: str, command: str, status: int, exit_mark: int | None, stderr: list[str]) -> CrashedError:
        """Return the error for an agent that died: a child's exit status is known without a mark."""
        return crashed(artifact, command, self.name, status, stderr)


def open_device(name: str) -> LocalDevice:
    """Return this machine, whatever follows ``local``."""
    return LocalDevice()
