"""A wall clock that jumps by years while a build runs changes neither its result nor its end."""

from __future__ import annotations

import itertools
import mmap
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from project import HANGS_S, begin, command, digests, edgekit, environment, fashion, report_of

TEN_YEARS_S = 3650 * 86_400
SOURCE = Path(__file__).with_name("jumping_clock.c")


@pytest.fixture(scope="module")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that moves the wall clock of the processes it is loaded into."""
    compiler = shutil.which("cc") or shutil.which("clang") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        assert not os.environ.get("CI"), "there is no C compiler"
        pytest.skip("no clock can be moved here; on Debian: apt-get install clang")
    library = tmp_path_factory.mktemp("clock") / "jumping_clock.so"
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
    return library


@pytest.mark.slow
def test_a_jumping_clock_changes_nothing(preload: Path, finished: Path, tmp_path: Path) -> None:
    recipe = fashion(tmp_path / "fashion")
    out, log, shift = recipe / "out", tmp_path / "log", tmp_path / "shift"
    begin(finished, out)
    shift.write_bytes(struct.pack("q", 0))
    moved = environment() | {"LD_PRELOAD": str(preload), "JUMPING_CLOCK": str(shift)}
    words = command("build", "-c", recipe, "-o", out, "-j", "1", "--time-budget", "1h")
    jumps = itertools.cycle((TEN_YEARS_S, -TEN_YEARS_S))
    with (
        log.open("wb") as stderr,
        shift.open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as clock,
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=stderr, env=moved) as build,
    ):
        end = time.monotonic() + HANGS_S
        count = 0
        while build.poll() is None and time.monotonic() < end:
            clock[:] = struct.pack("q", next(jumps))  # in the middle of every step, again and again
            count += 1
            time.sleep(0.2)
        build.kill()
    assert build.returncode == 0, log.read_text()
    assert count > 10
    report = report_of(out)
    assert abs(int(report["created"][:4]) - time.gmtime().tm_year) in (9, 10, 11)  # the clock did jump
    assert 0 < report["duration_s"] < HANGS_S
    [int8] = [row for row in report["targets"][0]["variants"] if row["name"] == "int8"]
    assert int8["search"]["complete"]  # ten years on, an hour was not over
    assert 0 < int8["latency"]["p99_ms"] < 1000 * HANGS_S
    assert not list((out / "store/tmp").iterdir())

    still = recipe / "still"
    begin(finished, still)
    assert edgekit(*words[3:], "-o", still).code == 0
    assert digests(out / "variants") == digests(still / "variants")
