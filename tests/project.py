"""A recipe that builds in seconds, and the real command line run on it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SAMPLES = Path(__file__).parents[1] / "sample_models"
FASHION = SAMPLES / "fashion_classifier"
DETECTOR = SAMPLES / "digits_detector"
TARGET = "raspberry-pi-4"
SIZES = {"test": 60, "calibration": 20, "train": 64}
MEASURED = (".record.json", ".card.md")
NO_PRUNE = "[prune]\nenabled = false\n"
ONE_EPOCH = "[prune]\nkeep_macs = 0.5\nepochs = 1\ncontrol = false\n"
HANGS_S = 600  # a command that takes this long never ends; no test expects a speed


@dataclass(frozen=True)
class Done:
    """A finished command."""

    code: int
    out: str
    err: str

    def steps(self, note: str) -> set[str]:
        """Return the stages whose lines end in ``note``, e.g. "reused"."""
        return {line.split("/")[1].split()[1] for line in self.lines() if line.endswith(note)}

    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.err.splitlines() if line[:1] in "✓✗-" and "/" in line]


def command(*arguments: object, program: Path | None = None) -> list[str]:
    """Return the command line of this environment's edgekit, or of another ``program``."""
    return [*([str(program)] if program else [sys.executable, "-m", "edgekit"]), *(str(item) for item in arguments)]


_ELSEWHERE = """#!/bin/sh
umask 077
export HOME="{home}" TMPDIR="{home}/tmp" PYTHONHASHSEED=12345 PYTHONPATH="$PYTHONPATH:{checkout}"
export TZ=XXX-13:45 LC_ALL=POSIX LANG=POSIX USER=somebody
exec "{python}" -m edgekit "$@"
"""


def elsewhere(folder: Path) -> Path:
    """Return edgekit as another user of this machine has it, with the same libraries: a virtual environment, a home,
    a time zone, a locale, a seed of hashes and a umask of its own. The processors stay: how many train decides the
    order of their sums.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    [packages] = (folder / "env/lib").glob("python*/site-packages")
    libraries = sysconfig.get_path("purelib")
    (packages / "libraries.pth").write_text(f"import site; site.addsitedir({libraries!r})\n")
    (folder / "home/tmp").mkdir(parents=True)
    program = folder / "edgekit"
    checkout = Path(__file__).parents[1]
    program.write_text(_ELSEWHERE.format(home=folder / "home", python=folder / "env/bin/python", checkout=checkout))
    program.chmod(0o755)
    return program


def environment() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}


def edgekit(
    *arguments: object, timeout_s: float = HANGS_S, program: Path | None = None, cwd: Path | None = None
) -> Done:
    """Run the command line to its end."""
    words = command(*arguments, program=program)
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout_s, env=environment(), cwd=cwd)
    return Done(done.returncode, done.stdout, done.stderr)


def fashion(folder: Path, extra: str = NO_PRUNE, *, target: str = TARGET) -> Path:
    """Write the small fashion recipe to ``folder``; ``extra`` is appended to its edgekit.toml."""
    (folder / "data").mkdir(parents=True)
    shutil.copyfile(FASHION / "model.keras", folder / "model.keras")
    for name, count in SIZES.items():
        with np.load(FASHION / "data" / f"{name}.npz") as stored:
            np.savez(folder / "data" / f"{name}.npz", **{key: stored[key][:count] for key in stored.files})
    text = (FASHION / "edgekit.toml").read_text()
    head, _, _ = text.partition("[targets]")
    # 60 samples: one of them is 1.7 points, so the sample's own budget would be a coin toss here
    head = head.replace("accuracy_drop = 0.6", "accuracy_drop = 50.0")
    tables = f'[targets]\nnames = ["{target}"]\n[profile]\nmin_seconds = 0.1\n{extra}'
    (folder / "edgekit.toml").write_text(head + tables)
    return folder


def begin(finished: Path, out: Path) -> None:
    """Put the float graphs of a finished build into the store of ``out``, which has to be of the same model.

    Converting a Keras model takes TensorFlow, and most of a small build's time: for tests of what comes after it.
    """
    (out / "store").mkdir(parents=True)
    for request in (finished / "out/store").glob("*/request.json"):
        if json.loads(request.read_text())["function"].startswith("edgekit.convert.stage:"):
            shutil.copytree(request.parent, out / "store" / request.parent.name)


def edit(folder: Path, old: str, new: str) -> None:
    """Replace ``old``, which must be there once, in the recipe."""
    path = folder / "edgekit.toml"
    text = path.read_text()
    assert text.count(old) == 1, old
    path.write_text(text.replace(old, new))


def report_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file under ``folder``."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def made(folder: Path) -> dict[str, str]:
    """Return the digests of what two builds of one recipe write alike: all but when it was, and what was timed."""
    return {name: sha256 for name, sha256 in digests(folder).items() if not name.endswith(MEASURED)}
