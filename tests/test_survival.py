"""A build against the world: full disk, read-only folder, Ctrl-C, kill -9, vanished data, other builds, a bad store."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from project import (
    HANGS_S,
    ONE_EPOCH,
    begin,
    command,
    digests,
    edgekit,
    elsewhere,
    environment,
    fashion,
    made,
    report_of,
)

from edgekit import build as builder
from edgekit.errors import EdgekitError
from edgekit.steps import Step

KILL_MOMENTS = int(os.environ.get("EDGEKIT_KILL_MOMENTS", "2"))
KILL_SEED = int(os.environ.get("EDGEKIT_KILL_SEED", "0"))
ENDS_S = 15  # what was told to end is gone within this, also on a busy machine
linux = pytest.mark.skipif(sys.platform != "linux", reason="mounts and /proc are Linux's")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return fashion(tmp_path / "fashion")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 24 MB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


class Running:
    """A build that is under way, in its own process group, with its stderr in a file."""

    def __init__(self, folder: Path, out: Path, program: Path | None = None) -> None:
        self.log = folder / f"{out.name}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command("build", "-c", folder, "-o", out, program=program), stdout=subprocess.DEVNULL, stderr=log,
                env=environment(), start_new_session=True,
                # a shell's background jobs ignore SIGINT and pass that on
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip

    def wait_for_steps(self, count: int) -> None:
        """Return when ``count`` steps are done and the next one runs in a child."""
        deadline = time.monotonic() + HANGS_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            if self.log.read_text().count("✓") >= count and self.children():
                time.sleep(0.5)  # into the child's work
                if self.children():
                    return
            time.sleep(0.05)
        raise AssertionError(f"no {count} steps in {HANGS_S} s: {self.log.read_text()}")

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def gone(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=ENDS_S)
    return not alive


@linux
@pytest.mark.slow
def test_full_disk_then_space_again(recipe: Path, disk: Path) -> None:
    filler = disk / "filler"
    room = os.statvfs(disk)
    filler.write_bytes(bytes(room.f_bavail * room.f_frsize - 300_000))
    done = edgekit("build", "-c", recipe, "-o", disk / "out")
    assert done.code == 5, done.err
    assert "Traceback (most recent call last)" not in done.out
    assert "full" in done.err or "No space left on device" in done.err
    assert "--output DIR" in done.err
    report = disk / "out/report.json"
    assert not report.is_file() or report_of(disk / "out")["exit_code"] == 5

    filler.unlink()
    done = edgekit("build", "-c", recipe, "-o", disk / "out")
    assert done.code == 0, done.err
    assert report_of(disk / "out")["exit_code"] == 0


@linux
def test_read_only_disk(recipe: Path, disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    done = edgekit("build", "-c", recipe, "-o", disk / "out")
    assert done.code == 5, done.err
    assert "Read-only file system" in done.err
    assert str(disk / "out") in done.err.replace("\n", "")
    assert "--output DIR" in done.err


def test_a_file_where_the_build_folder_should_be(recipe: Path) -> None:
    (recipe / "out").write_text("mine")
    done = edgekit("build", "-c", recipe, "-o", recipe / "out")
    assert done.code == 5, done.err
    assert "--output DIR" in done.err
    assert (recipe / "out").read_text() == "mine"


@pytest.mark.slow
def test_ctrl_c_ends_in_order_and_the_same_command_goes_on(recipe: Path) -> None:
    out = recipe / "out"
    running = Running(recipe, out)
    running.wait_for_steps(1)
    children = running.children()
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=ENDS_S) == 130
    assert gone(children), children
    text = running.log.read_text()
    assert "interrupted" in text
    assert f"{text.count('✓')} of 9 steps are finished and kept" in text
    assert "Traceback" not in text
    assert not (out / "report.json").exists()
    assert not list((out / "store/tmp").iterdir())

    done = edgekit("build", "-c", recipe, "-o", out)
    assert done.code == 0, done.err
    assert done.lines()[0].endswith("reused")
    assert not done.lines()[-1].endswith("reused")


@pytest.mark.slow
def test_kill_9_in_another_environment_costs_one_step_and_no_byte(finished: Path, tmp_path: Path) -> None:
    """The other user's build is also killed in the middle: both make it what it is here, byte for byte."""
    program = elsewhere(tmp_path / "elsewhere")
    recipe = fashion(tmp_path / "another-folder", ONE_EPOCH)
    out = recipe / "out"
    running = Running(recipe, out, program)
    running.wait_for_steps(2)
    children = running.children()
    running.process.kill()
    running.process.wait(timeout=ENDS_S)
    assert gone(children), children  # the child dies with its parent
    finished_steps = running.log.read_text().count("✓")

    done = edgekit("build", "-c", recipe, "-o", out, program=program)
    assert done.code == 0, done.err
    assert all(line.endswith("reused") for line in done.lines()[:finished_steps]), done.err
    assert not done.lines()[finished_steps].endswith("reused")
    assert not list((out / "store/tmp").iterdir())

    # The uninterrupted build in another folder is the measure: same recipe, same libraries, same bytes.
    assert digests(out / "variants") == digests(finished / "out/variants")
    ours, theirs = made(out / "artifacts"), made(finished / "out/artifacts")
    both = {name for name in set(ours) & set(theirs) if not name.endswith("/model.json")}
    assert both  # which of two equally fast variants ships is timing's word; what both shipped is the same
    assert {name: ours[name] for name in both} == {name: theirs[name] for name in both}


@pytest.mark.slow
def test_kill_9_at_seeded_random_moments_costs_no_byte(tmp_path: Path) -> None:
    """Every build is killed at random moments of an uninterrupted one's time until it gets through."""
    generator = random.Random(KILL_SEED)
    uninterrupted = fashion(tmp_path / "uninterrupted")
    began = time.monotonic()
    assert edgekit("build", "-c", uninterrupted, "-o", uninterrupted / "out").code == 0
    takes_s = time.monotonic() - began
    expected = digests(uninterrupted / "out/variants"), _shared(made(uninterrupted / "out/artifacts"))
    kills = builds = 0
    while kills < KILL_MOMENTS:
        builds += 1
        recipe = fashion(tmp_path / f"killed-{builds}")
        while kills < KILL_MOMENTS:
            running = Running(recipe, recipe / "out")
            try:
                running.process.wait(timeout=generator.uniform(0, takes_s))
            except subprocess.TimeoutExpired:
                children = running.children()
                running.process.kill()
                running.process.wait(timeout=ENDS_S)
                kills += 1
                assert gone(children), children
            else:
                break
        done = edgekit("build", "-c", recipe, "-o", recipe / "out")
        assert done.code == 0, done.err
        found = digests(recipe / "out/variants"), _shared(made(recipe / "out/artifacts"))
        assert found == expected
        assert not list((recipe / "out/store/tmp").iterdir())
        shutil.rmtree(recipe)
    print(f"{kills} kills in {builds} builds of {takes_s:.0f} s")


def _shared(files: dict[str, str]) -> dict[str, str]:
    """Leave away what depends on which of two equally fast files ships."""
    return {name: sha256 for name, sha256 in files.items() if name.endswith((".tflite", ".txt", ".py"))}


@pytest.mark.slow
def test_ten_builds_at_once_share_one_store(recipe: Path) -> None:
    out = recipe / "out"
    logs = [recipe / f"{number}.log" for number in range(10)]
    running = []
    for path in logs:
        with path.open("wb") as log:
            words = command("build", "-c", recipe, "-o", out)
            running.append(subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=log, env=environment()))
    codes = [process.wait(timeout=HANGS_S) for process in running]
    texts = [path.read_text() for path in logs]
    assert codes == [0] * 10, texts
    steps = [line.rstrip() for text in texts for line in text.splitlines() if line.startswith("✓")]
    assert len(steps) % 10 == 0
    once = [line for line in steps if not line.endswith("reused")]
    assert len(once) == len(steps) / 10  # each was made once, by one of the ten
    rows = report_of(out)["targets"][0]["variants"]
    assert {row["name"] for row in rows} == {"float32", "int8"}
    for row in rows:
        assert digests(out)[row["file"]] == row["sha256"]
    assert not list((out / "store/tmp").iterdir())


@pytest.mark.slow
def test_a_corrupt_store_entry_is_made_again_with_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    recipe = Path(shutil.copytree(finished, tmp_path / "fashion"))
    before = digests(recipe / "out/variants")
    sha256 = before["tflite-int8-original.tflite"]
    emitted = [entry.with_name("model.tflite") for entry in (recipe / "out/store").glob("*/expected.npz")]
    [path] = [path for path in emitted if hashlib.sha256(path.read_bytes()).hexdigest() == sha256]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    done = edgekit("build", "-c", recipe, "-o", recipe / "out")
    assert done.code == 0, done.err
    assert [line for line in done.lines() if not line.endswith("reused")] == [
        line for line in done.lines() if "tflite-int8-original file" in line
    ]
    assert digests(recipe / "out/variants") == before


@pytest.mark.slow
def test_a_store_of_an_older_version_is_left_alone_and_not_believed(finished: Path, tmp_path: Path) -> None:
    """Keys hold the version and the code, so an old entry is never asked for; one of another form is none."""
    recipe = Path(shutil.copytree(finished, tmp_path / "fashion"))
    store = recipe / "out/store"
    quick = ("plan.json", "predictions.npz", "expected.npz")
    entries = sorted(path.with_name("entry.json") for name in quick for path in store.glob(f"*/{name}"))
    for number, entry in enumerate(entries):
        if number % 2:
            entry.unlink()  # a form without an index
        else:
            entry.write_text(json.dumps({"version": 0, "outputs": []}))
    (store / "0.0.1").mkdir()
    (store / "0.0.1/blob").write_bytes(b"old")
    before = digests(recipe / "out/variants")
    done = edgekit("build", "-c", recipe, "-o", recipe / "out")
    assert done.code == 0, done.err
    made_again = [line for line in done.lines() if not line.endswith("reused")]
    assert len(made_again) == len(entries) == 10
    assert digests(recipe / "out/variants") == before
    assert (store / "0.0.1/blob").read_bytes() == b"old"


class Vanishing:
    """Takes the data away once the first step is done."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.errors: list[EdgekitError] = []

    def planned(self, steps: int) -> None: ...

    def started(self, step: Step) -> None: ...

    def progressed(self, step: Step, done: float, text: str) -> None: ...

    def finished(self, step: Step, reused: bool) -> None:
        if self.path.exists():
            self.path.rename(self.path.with_suffix(".gone"))

    def failed(self, step: Step, error: EdgekitError) -> None:
        self.errors.append(error)

    def skipped(self, step: Step, because: str) -> None: ...


@pytest.mark.slow
@pytest.mark.parametrize("name", ["data/test.npz", "model.keras"])
def test_what_vanishes_under_a_build_is_named_and_no_file_is_called_good(
    name: str, finished: Path, recipe: Path
) -> None:
    begin(finished, recipe / "out")
    prepared = builder.prepare(recipe, {}, [])
    observer = Vanishing(recipe / name)
    done = builder.run(prepared, recipe / "out", observer, jobs=1)
    if name == "model.keras":  # it was read: the graph is in the store
        assert done.report.exit_code == 0
        return
    assert done.report.exit_code == 2
    assert all("test.npz" in error.message for error in observer.errors)
    assert not [target for target in done.report.targets if target.outcome == "passed"]
    assert done.report.identity.test_sha256 == ""
    observer.path.with_suffix(".gone").rename(observer.path)
    assert edgekit("build", "-c", recipe, "-o", recipe / "out").code == 0
