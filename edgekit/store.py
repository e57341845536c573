"""Content-addressed results: what was computed once from the same content is not computed again.

    store/<key>/          one finished result: its files, result.json, and entry.json with every file's sha256
    store/tmp/            results being made; moved into place by one rename, so an entry is whole or absent
    store/unfinished/<key>/  what a long step keeps for the case that it is killed; gone once it is finished
    store/locks/<key>     held while a key is being made; a dead process lets go of it

A key covers the step's function, its parameters, the content of every file it reads, edgekit's own code and the
versions of the libraries that matter. Failures are never stored.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from edgekit.artifact import digest
from edgekit.errors import StageError
from edgekit.worker import ERROR, FREE_SPACE, LOG, REQUEST, RESULT

ENTRY = "entry.json"
_UNFINISHED = "unfinished"
_KEPT = 16  # folders of unfinished work; an age would depend on the clock, which may jump
_POLL_S = 0.2
_NOT_CONTENT = {ENTRY, LOG, REQUEST, ERROR}


class Entry:
    """One finished result in the store."""

    def __init__(self, folder: Path, reused: bool) -> None:
        self.folder = folder
        self.reused = reused
        self.result: dict[str, Any] = json.loads((folder / RESULT).read_text())
        self.files: dict[str, str] = json.loads((folder / ENTRY).read_text())["files"]

    def path(self, name: str) -> Path:
        return self.folder / name

    def sha256(self, name: str) -> str:
        """Return the digest of one output file or folder, which may be empty."""
        if name in self.files:
            return self.files[name]
        inside = {k: v for k, v in self.files.items() if k.startswith(name + "/")}
        if not inside and not self.path(name).is_dir():
            raise StageError(f"A finished step has no output named {name!r}.")
        return key_of(inside)


class Store:
    """Results under ``folder``; safe for several builds at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            for name in ("tmp", "locks"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder / "tmp"):
                pass
        except OSError as error:
            raise StageError(
                f"Cannot write to {folder}: {error.strerror or error}.",
                "Choose another build folder: --output DIR",
            ) from error
        self._sweep()

    def find(self, key: str) -> Entry | None:
        """Return the entry if it is there and whole; a damaged one is removed."""
        folder = self.folder / key
        try:
            files: dict[str, str] = json.loads((folder / ENTRY).read_text())["files"]
            whole = RESULT in files and all(digest(folder / name) == sha for name, sha in files.items())
        except FileNotFoundError:
            whole = False
        except (ValueError, KeyError, TypeError, AttributeError, OSError):  # an index that is no index
            whole = False
        if whole:
            return Entry(folder, reused=True)
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
        return None

    def obtain(self, key: str, make: Callable[[Path], None], waiting: Callable[[], None]) -> Entry:
        """Return the entry of ``key``, calling ``make(folder)`` if nobody has made it yet.

        ``waiting`` is called again and again while another build makes it; it may raise to give up.
        """
        try:
            return self._obtain(key, make, waiting)
        except OSError as error:
            raise StageError(f"Cannot write to {self.folder}: {error.strerror or error}.", FREE_SPACE) from error

    def _obtain(self, key: str, make: Callable[[Path], None], waiting: Callable[[], None]) -> Entry:
        with self._lock(key, waiting):
            if found := self.find(key):
                return found
            work = self.folder / "tmp" / uuid.uuid4().hex
            try:
                with _held(work.with_suffix(".alive")):  # held before the folder is there: nobody sweeps it
                    work.mkdir()
                    make(work)
                    self._publish(work, key)
            except BaseException:
                self._keep_log(work)
                raise
            finally:
                shutil.rmtree(work, ignore_errors=True)
                work.with_suffix(".alive").unlink(missing_ok=True)
        return Entry(self.folder / key, reused=False)

    def unfinished(self, key: str) -> Path:
        """Return the folder a step may go on from; only for who is making ``key``."""
        folder = self.folder / _UNFINISHED / key
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _publish(self, work: Path, key: str) -> None:
        names = sorted(p.relative_to(work).as_posix() for p in work.rglob("*") if p.is_file())
        files = {name: digest(work / name) for name in names if name not in _NOT_CONTENT}
        entry = work / ENTRY
        entry.write_text(json.dumps({"files": files}, indent=1))
        with entry.open("rb") as stream:
            os.fsync(stream.fileno())
        os.rename(work, self.folder / key)
        shutil.rmtree(self.folder / _UNFINISHED / key, ignore_errors=True)

    def _keep_log(self, work: Path) -> None:
        with suppress(OSError):  # on a full disk the error that is being raised matters, not its log
            shutil.copyfile(work / LOG, self.folder / "last-failure.log")

    @contextmanager
    def _lock(self, key: str, waiting: Callable[[], None]) -> Iterator[None]:
        with (self.folder / "locks" / key).open("w") as stream:
            while not _taken(stream):
                waiting()
                time.sleep(_POLL_S)
            yield

    def _sweep(self) -> None:
        """Remove what killed builds left behind; the folders of living ones are held.

        Of what a step may go on from, the last ones stay, and all that somebody is working on.
        """
        kept = sorted((self.folder / _UNFINISHED).glob("*"), key=_changed_ns, reverse=True)
        for left in kept[_KEPT:]:
            if not _is_held(self.folder / "locks" / left.name):
                shutil.rmtree(left, ignore_errors=True)
        for work in (self.folder / "tmp").iterdir():
            if not work.is_dir() or _is_held(work.with_suffix(".alive")):
                continue
            shutil.rmtree(work, ignore_errors=True)
            work.with_suffix(".alive").unlink(missing_ok=True)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _changed_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:  # it was finished just now
        return 0


def _is_held(path: Path) -> bool:
    try:
        with path.open("r+") as stream:
            return not _taken(stream)
    except FileNotFoundError:
        return False


def _taken(stream: IO[str]) -> bool:
    """Lock the file if nobody else holds it, and say whether that went well."""
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def key_of(content: Any) -> str:
    """Return the sha256 of a JSON-able value in its canonical form."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
