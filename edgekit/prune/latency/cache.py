"""Keep what was timed, per machine: the next build chooses the same network, and need not wait."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from edgekit.prune.latency.table import Place

_METHOD = 1  # how ops are timed; raised when figures of before are no longer comparable


def folder() -> Path:
    """Return the user's folder for this (XDG Base Directory Specification), or what ``EDGEKIT_CACHE`` names."""
    named = os.environ.get("EDGEKIT_CACHE")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgekit"
    return (Path(named) if named else cache) / "latency"


def _identity(place: Place) -> dict[str, str | int]:
    """Return what figures depend on: not the address of the device, but what it is."""
    return {key: value for key, value in asdict(place).items() if key != "device"} | {"method": _METHOD}


def file_of(place: Place) -> Path:
    identity = json.dumps(_identity(place), sort_keys=True)
    return folder() / f"{place.format}-{place.precision}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"


def load(place: Place) -> tuple[dict[str, int], str]:
    """Return the times known of a place, and a note where its file could not be read and counts as empty."""
    path = file_of(place)
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        times = {str(key): int(value) for key, value in written["times_ns"].items()}
        known = written["identity"] == _identity(place)
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return {}, f"{path} could not be read ({type(error).__name__}): its ops are timed again."
    return (times, "") if known else ({}, f"{path} is of another machine: its ops are timed again.")


def add(place: Place, times_ns: Mapping[str, int]) -> dict[str, int]:
    """Add times to a place's file and return all of them; what is in it already stays, whoever wrote it."""
    known, _ = load(place)
    merged = {**times_ns, **known}
    path = file_of(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    written = {"identity": _identity(place), "times_ns": dict(sorted(merged.items()))}
    with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False, encoding="utf-8") as part:
        json.dump(written, part, indent=1)
    os.replace(part.name, path)
    return merged
