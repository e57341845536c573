"""How the tests are spread over worker processes, and what the workers share.

A file's tests stay together and in order, as its module fixtures expect; so do all files that use what a machine has
but once.
The files with most ``slow`` tests go first, so that no long one is left for the end.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import psutil
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from edgekit.runtimes.facts import cores

ROOT = Path(__file__).parents[1]
# Stand-ins that a machine has but once: a phone's folder has a fixed name, a board's root folder is mounted.
USES_STAND_INS = re.compile(r"^(import|from) (adb_phone|arm)\b", re.MULTILINE)
_WORKER_GB = 4  # a worker that loaded TensorFlow, and its children that train or convert


class InGroups(LoadScopeScheduling):
    """Gives a worker a whole group at a time, in the order of the collection."""

    def __init__(self, config: pytest.Config, log: Producer | None = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def group(nodeid: str) -> str:
    return _group_of(nodeid.partition("::")[0])


@cache
def _group_of(file: str) -> str:
    return "stand-ins" if USES_STAND_INS.search((ROOT / file).read_text()) else file


def long_ones_first(items: list[pytest.Item]) -> None:
    slow = Counter(group(item.nodeid) for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[group(item.nodeid)])


def fitting() -> int:
    """Return how many workers this machine has cores and memory for, and one: a quarter of the time they wait."""
    memory_gb = psutil.virtual_memory().total / 1e9
    return max(1, min(cores() + 1, int(memory_gb / _WORKER_GB)))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that the first worker to ask fills with ``make``, while the others wait.

    All of them read it at once: tests change copies of it only.
    """
    place = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        place = place.parent
    folder, complete = place / name, place / f"{name}.complete"
    with (place / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            complete.touch()
    return folder
