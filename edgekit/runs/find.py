"""Find the builds below a folder: every report.json a few levels down, read once for as long as it stays the same."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from edgekit.build_folder import PLACES
from edgekit.errors import RecipeError
from edgekit.report.json import load
from edgekit.report.schema import Report

REPORT = "report.json"
LEVELS = 4
_NOT_ENTERED = {"store", "node_modules", "__pycache__", *PLACES}
_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Run:
    """A build's folder. ``report`` is None where it cannot be read, and ``problem`` says why."""

    id: str
    name: str
    folder: Path
    report: Report | None
    problem: str = ""


class Runs:
    """The builds below ``root``. Safe for several threads. Raises RecipeError where it is no folder."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise RecipeError(f"{root} is no folder.", "Name the folder that holds the builds: --serve FOLDER")
        self.root = root.resolve()
        self._read: dict[Path, tuple[_Stamp, Run]] = {}
        self._lock = Lock()

    def all(self) -> list[Run]:
        """Return them as they are now, the newest first, and last those that cannot be read."""
        with self._lock:
            self._read = {folder: found for folder in _folders(self.root) if (found := self._one(folder))}
            runs = [run for _, run in self._read.values()]
        runs.sort(key=lambda run: run.name)
        runs.sort(key=lambda run: run.report.created if run.report else "", reverse=True)
        return runs

    def _one(self, folder: Path) -> tuple[_Stamp, Run] | None:
        try:
            found = (folder / REPORT).stat()
        except OSError:  # gone since it was listed
            return None
        stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
        if folder in self._read and self._read[folder][0] == stamp:
            return self._read[folder]
        place = folder.relative_to(self.root).as_posix()
        name = f"{self.root.name}/" if place == "." else place
        id = hashlib.sha256(place.encode()).hexdigest()[:12]
        try:
            return stamp, Run(id, name, folder, load(folder))
        except RecipeError as error:
            return stamp, Run(id, name, folder, None, error.message)


def _folders(root: Path) -> Iterator[Path]:
    """Yield the folders with a report, without following links."""
    for place, folders, files in os.walk(root):
        here = Path(place)
        if REPORT in files and not (here / REPORT).is_symlink():
            yield here
        deep = len(here.relative_to(root).parts) >= LEVELS
        folders[:] = [] if deep else sorted(n for n in folders if n not in _NOT_ENTERED and not n.startswith("."))
