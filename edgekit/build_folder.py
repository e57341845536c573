"""The folder a build leaves: written file by file in one step each, and holding exactly the last build."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgekit.errors import StageError

PLACES = ("variants", "artifacts")
_OURS = (
    *(".tflite", ".onnx", ".json", ".card.md", "labels.txt"),
    *("edgekit_run.py", "EdgekitModel.kt", "edgekit.html", "edgekit.js"),
)
_LOCK = ".publishing"


class BuildFolder:
    """Files under ``path``; remembers what this build wrote. Use as a context: builds publish one after another."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written: set[Path] = set()

    def __enter__(self) -> BuildFolder:
        with _explained(self.path / _LOCK):
            self._lock = (self.path / _LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    def write(self, name: str, content: bytes) -> Path:
        """Replace ``name`` in one step: a reader, or a kill, never meets half of it. Raises StageError."""
        path = self.path / name
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(content)
                os.chmod(temporary, 0o644)
                os.replace(temporary, path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        self._written.add(path)
        return path

    def sweep(self) -> None:
        """Remove models and manifests of earlier builds: their report is gone, and nobody should deploy them."""
        for place in PLACES:
            for path in sorted((self.path / place).rglob("*"), reverse=True):
                if path.is_dir():
                    with suppress(OSError):  # it holds something
                        path.rmdir()
                elif path.name.endswith(_OURS) and path not in self._written:
                    path.unlink(missing_ok=True)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StageError(
            f"Cannot write {path}: {error.strerror or error}.",
            "Free some disk space, or choose another folder: --output DIR",
        ) from error
