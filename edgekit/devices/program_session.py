"""A session made of programs that start anew for every question: between two of them nothing runs on the device."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

Answer = Callable[..., dict[str, Any]]


class Shell(Protocol):
    """What this needs of a device."""

    name: str

    def push(self, path: Path) -> str: ...

    def run(self, script: str, timeout_s: float = ..., *, once: bool = ...) -> Any: ...


class ProgramSession:
    """Answers as an agent would, see ``edgekit.devices.Session``; what the program does not say is absent."""

    def __init__(self, device: Shell, artifact: str, answers: Mapping[str, Answer]) -> None:
        self.device = device
        self.artifact = artifact
        self._answers = {"usage": _usage, "memory": _memory, **answers}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave nothing behind: nothing is there."""

    def ask(self, command: str, timeout_s: float, **arguments: Any) -> dict[str, Any]:
        """Answer one command within ``timeout_s``."""
        return self._answers[command](timeout_s, **arguments)


def _usage(timeout_s: float) -> dict[str, Any]:
    return {"clock_s": time.monotonic(), "busy_s": None, "own_s": 0.0}


def _memory(timeout_s: float) -> dict[str, Any]:
    return {"peak_bytes": 0}
