"""Two fresh environments from one lock file, in two folders, for two users: are the files they build the same bytes?

.venv/bin/python -m benchmarks.environments --out /tmp/environments

Each is a virtual environment of its own with the locked libraries from the package index (about 2 GB and some minutes
each) and a copy of this checkout, and builds with ``--locked`` under another home, time zone, locale, umask and seed
of hashes. The processors are the same: how many of them train decides the order of their sums. What ops cost is
measured by the first and given to the second: where widths are chosen by time, other times give another network.
What depends on the time of day or on a measured time is not compared.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
SAMPLE = CHECKOUT / "sample_models/fashion_classifier"
MEASURED = (".record.json", ".card.md", "/model.json")  # figures; and which of two equally fast files ships
TARGETS = '[targets]\nnames = ["raspberry-pi-4", "browser"]\n'
PRUNE = "[prune]\nkeep_macs = 0.5\nepochs = 1\ncontrol = false\n"
NO_PRUNE = "[prune]\nenabled = false\n"
USERS: Mapping[str, Mapping[str, str]] = {
    "a": {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1", "umask": "022"},
    "b": {"TZ": "XXX-13:45", "LC_ALL": "POSIX", "PYTHONHASHSEED": "2", "umask": "077"},
}


def install(folder: Path, lock: Path) -> Path:
    """Make the environment and return its Python."""
    left = shutil.ignore_patterns(".venv", ".git", "edgekit-build", "dist", ".*_cache")
    shutil.copytree(CHECKOUT, folder / "checkout", ignore=left)
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = folder / "env/bin/python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", lock], check=True)
    subprocess.run([*pip, "--no-deps", folder / "checkout"], check=True)
    return python


def build(user: str, folder: Path, python: Path, lock: Path, cache: Path, prune: str) -> Path:
    """Build the sample as that user, and return the build folder."""
    recipe = folder / "recipe"
    shutil.copytree(SAMPLE, recipe)
    head, _, _ = (recipe / "edgekit.toml").read_text().partition("[targets]")
    (recipe / "edgekit.toml").write_text(head + TARGETS + prune)
    shutil.copyfile(lock, recipe / "edgekit.lock")
    (folder / "home/tmp").mkdir(parents=True)
    facts = USERS[user]
    variables = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "home/tmp"),
        "EDGEKIT_CACHE": str(cache),
        **{name: facts[name] for name in ("TZ", "LC_ALL", "PYTHONHASHSEED")},
    }

    words = [python, "-m", "edgekit", "build", "-c", recipe, "-o", folder / "out", "--locked"]
    done = subprocess.run(words, env=variables, cwd=folder, umask=int(facts["umask"], 8), stdout=subprocess.DEVNULL)
    if done.returncode not in (0, 7):
        raise SystemExit(f"the build of {user} ended in {done.returncode}")
    return folder / "out"


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for place in ("variants", "artifacts")
        for path in sorted((folder / place).rglob("*"))
        if path.is_file() and not path.as_posix().endswith(MEASURED)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--no-pruning", action="store_true", help="leave the training out: minutes instead of many")
    given = parser.parse_args()
    prune = NO_PRUNE if given.no_pruning else PRUNE
    out: Path = given.out.resolve()
    out.mkdir(parents=True)
    lock = out / "edgekit.lock"
    subprocess.run([sys.executable, "-m", "edgekit", "lock", lock], check=True, cwd=CHECKOUT)
    found = {}
    for user in USERS:
        start = time.monotonic()
        python = install(out / user, lock)
        installed = time.monotonic()
        found[user] = digests(build(user, out / user, python, lock, out / "cache", prune))
        minutes = (installed - start) / 60, (time.monotonic() - installed) / 60
        print(f"{user}: installed in {minutes[0]:.1f} minutes, built in {minutes[1]:.1f}", file=sys.stderr)
    first, second = found["a"], found["b"]
    print("| files | equal | other | in one only |")
    print("|---|---:|---:|---:|")
    for place in ("variants", "artifacts"):
        ours = {name for name in first if name.startswith(place)}
        theirs = {name for name in second if name.startswith(place)}
        both = ours & theirs
        equal = sum(first[name] == second[name] for name in both)
        print(f"| {place} | {equal} | {len(both) - equal} | {len(ours ^ theirs)} |")
    for name in sorted(first.keys() & second.keys()):
        if first[name] != second[name]:
            print(f"other: {name}")
    raise SystemExit(first != second)


if __name__ == "__main__":
    main()
