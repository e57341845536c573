"""Results are whole or absent, made once, and found again only while they are what they were."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit.errors import StageError
from edgekit.store import ENTRY, Store, key_of
from edgekit.worker import ERROR, LOG, REQUEST, RESULT


def silent() -> None:
    pass


class Maker:
    """Write a small result and count how often it was asked to."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        self.calls += 1
        (folder / RESULT).write_text(json.dumps({"value": 7}))
        (folder / "tree").mkdir()
        (folder / "tree" / "model.bin").write_bytes(b"weights")
        (folder / "plan.json").write_text("{}")
        (folder / "empty").mkdir()
        for name in (LOG, REQUEST):
            (folder / name).write_text(f"different every time: {time.time_ns()}")


def test_made_once_and_found_by_the_next_build(tmp_path: Path) -> None:
    make = Maker()
    first = Store(tmp_path / "store").obtain("k", make, silent)
    second = Store(tmp_path / "store").obtain("k", make, silent)
    assert (make.calls, first.reused, second.reused) == (1, False, True)
    assert second.result == {"value": 7}
    assert second.path("tree/model.bin").read_bytes() == b"weights"
    assert list((tmp_path / "store" / "tmp").iterdir()) == []


def test_digests_cover_outputs_and_not_logs(tmp_path: Path) -> None:
    entries = [Store(tmp_path / name).obtain("k", Maker(), silent) for name in "ab"]
    assert set(entries[0].files) == {RESULT, "plan.json", "tree/model.bin"}
    assert entries[0].files == entries[1].files
    assert entries[0].sha256("tree") == entries[1].sha256("tree")
    assert entries[0].sha256("plan.json") == entries[0].files["plan.json"]
    assert entries[0].sha256("empty") == entries[1].sha256("empty") != entries[0].sha256("tree")
    with pytest.raises(StageError, match="no output named 'nothing'"):
        entries[0].sha256("nothing")


def test_a_failure_leaves_no_entry_and_its_log(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / RESULT).write_text("{}")
        (folder / LOG).write_text("the reason")
        (folder / ERROR).write_text("{}")
        raise StageError("it failed")

    store = Store(tmp_path)
    with pytest.raises(StageError, match="it failed"):
        store.obtain("k", fail, silent)
    assert store.find("k") is None
    assert not (tmp_path / "k").exists()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert (tmp_path / "last-failure.log").read_text() == "the reason"
    assert store.obtain("k", Maker(), silent).reused is False


def flip_a_byte(folder: Path) -> None:
    (folder / "tree" / "model.bin").write_bytes(b"weightz")


def lose_a_file(folder: Path) -> None:
    (folder / "tree" / "model.bin").unlink()


def lose_the_index(folder: Path) -> None:
    (folder / ENTRY).unlink()


def cut_the_index(folder: Path) -> None:
    (folder / ENTRY).write_text('{"files": {')


def empty_the_index(folder: Path) -> None:
    (folder / ENTRY).write_text("[]")


def forget_the_result(folder: Path) -> None:
    (folder / ENTRY).write_text('{"files": {}}')
    (folder / RESULT).unlink()


@pytest.mark.parametrize(
    "damage", [flip_a_byte, lose_a_file, lose_the_index, cut_the_index, empty_the_index, forget_the_result]
)
def test_a_damaged_entry_is_made_again(tmp_path: Path, damage: object) -> None:
    store, make = Store(tmp_path), Maker()
    store.obtain("k", make, silent)
    damage(tmp_path / "k")  # type: ignore[operator]
    entry = store.obtain("k", make, silent)
    assert (make.calls, entry.reused) == (2, False)
    assert entry.path("tree/model.bin").read_bytes() == b"weights"


_MAKE = """
import os, sys, time
from pathlib import Path
from edgekit.store import Store
folder, seconds = Path(sys.argv[1]), float(sys.argv[2])

def make(out):
    with open(folder / "calls", "a") as calls:
        calls.write("x")
    (out / "result.json").write_text("{}")
    print("making", flush=True)
    time.sleep(seconds)

entry = Store(folder / "store").obtain("k", make, lambda: print("waiting", flush=True))
print("reused" if entry.reused else "made", flush=True)
"""


def build(folder: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _MAKE, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True, bufsize=1
    )


def test_two_builds_at_once_make_it_once(tmp_path: Path) -> None:
    with build(tmp_path, 1.5) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "making\n"
        with build(tmp_path, 0) as second:
            assert second.stdout is not None
            *waited, last = second.stdout.read().split()
            assert (set(waited), last) == ({"waiting"}, "reused")
        assert first.stdout.read().split() == ["made"]
    assert (tmp_path / "calls").read_text() == "x"


def test_a_killed_build_lets_go_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with build(tmp_path, 60) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "making\n"
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert not (tmp_path / "store" / "k").exists()
    with build(tmp_path, 0) as second:
        assert second.stdout is not None
        assert second.stdout.read().split() == ["making", "made"]  # it did not wait
    assert list((tmp_path / "store" / "tmp").iterdir()) == []


def test_what_a_living_build_is_making_is_left_alone(tmp_path: Path) -> None:
    with build(tmp_path, 1.0) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "making\n"
        Store(tmp_path / "store")  # sweeps
        assert first.stdout.read().split() == ["made"]


def test_the_last_unfinished_work_stays_and_all_that_is_held_whatever_its_date(tmp_path: Path) -> None:
    store = Store(tmp_path)
    places = [store.unfinished(f"{number:02}") for number in range(20)]
    for number, place in enumerate(places):
        long_ago = number * 3_600  # seconds after 1970
        os.utime(place, (long_ago, long_ago))
    with (tmp_path / "locks/00").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # somebody is working on the oldest
        Store(tmp_path)
    assert sorted(path.name for path in (tmp_path / "unfinished").iterdir()) == [
        "00",
        *(f"{number:02}" for number in range(4, 20)),
    ]


def test_a_folder_appears_only_when_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that starts between the two would otherwise sweep the folder away."""
    real = os.mkdir
    swept: list[str] = []

    def mkdir(path: object, *rest: object, **named: object) -> None:
        real(path, *rest, **named)  # type: ignore[call-overload]
        if Path(str(path)).parent == tmp_path / "tmp" and not swept:
            swept.append(str(path))
            Store(tmp_path)

    store = Store(tmp_path)
    monkeypatch.setattr(os, "mkdir", mkdir)
    store.obtain("k", Maker(), silent)
    assert swept, "this test saw the folder being made"


@pytest.mark.parametrize("where", ["a-file/store", "/proc/edgekit-store"])
def test_a_folder_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    (tmp_path / "a-file").touch()
    with pytest.raises(StageError, match="Cannot write to") as caught:
        Store(tmp_path / where)
    assert "--output" in caught.value.hint


def test_keys_depend_on_content_and_not_on_its_order() -> None:
    assert key_of({"a": 1, "b": [2, 3]}) == key_of({"b": [2, 3], "a": 1})
    assert key_of({"a": 1}) != key_of({"a": 1.5})
    assert key_of(["ab", "c"]) != key_of(["a", "bc"])
