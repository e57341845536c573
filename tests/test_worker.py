"""A step's child process: its errors come back as they were, and its death is named."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgekit import worker
from edgekit.errors import DependencyError, EdgekitError, RecipeError, StageError, UnsupportedError

STEPS = """
import ctypes, os, signal, sys, time
from pathlib import Path
from edgekit.errors import RecipeError, UnsupportedError

def echo(*, out, progress, **arguments):
    print("a library prints")
    os.write(1, b"and so does C++\\n")
    progress(0.5, "half way")
    (out / "made.txt").write_text("x")
    return {k: f"{type(v).__name__} {v}" for k, v in arguments.items()}

def unsupported(*, out, progress): raise UnsupportedError("this model has a Lambda", "rewrite it")
def recipe(*, out, progress): raise RecipeError("no such file")
def bug(*, out, progress): raise ValueError("an unexpected value: 17")
def no_json(*, out, progress): return {"x": float("nan")}
def missing(*, out, progress): import a_module_that_is_not_there
def disk(*, out, progress): (out / "no" / "such").write_text("x")
def memory(*, out, progress): raise MemoryError
def leave(*, out, progress): print("last words", file=sys.stderr, flush=True); os._exit(0)
def segfault(*, out, progress): ctypes.string_at(0)
def killed(*, out, progress): os.kill(os.getpid(), signal.SIGKILL)
def aborted(*, out, progress): os.abort()

def sleep(*, out, progress):
    (out / "pid").write_text(str(os.getpid()))
    progress(0.1, "asleep")
    time.sleep(120)
"""


@pytest.fixture(autouse=True)
def _steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "steps_of_this_test.py").write_text(STEPS)
    project = str(Path(worker.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), project]))


def call(folder: Path, name: str, progress: worker.Progress = lambda done, text: None, **arguments: Any) -> Any:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    return worker.run(f"steps_of_this_test:{name}", arguments, out, progress, label="the step")


def test_a_result_with_progress_and_a_log(tmp_path: Path) -> None:
    heard: list[tuple[float, str]] = []
    result = call(tmp_path, "echo", lambda done, text: heard.append((done, text)), path=Path("/a b"), number=3)
    assert result == {"path": "PosixPath /a b", "number": "int 3"}
    assert heard == [(0.5, "half way")]
    log = (tmp_path / "out" / worker.LOG).read_text()
    assert "a library prints" in log
    assert "and so does C++" in log


def test_paths_arrive_as_paths_however_deep(tmp_path: Path) -> None:
    value = call(tmp_path, "echo", nested={"inside": [Path("/a"), {"b": Path("/c")}]})["nested"]
    assert value == "dict {'inside': [PosixPath('/a'), {'b': PosixPath('/c')}]}"


@pytest.mark.parametrize(
    ("name", "kind", "message", "hint"),
    [
        ("unsupported", UnsupportedError, "this model has a Lambda", "rewrite it"),
        ("recipe", RecipeError, "no such file", ""),
        ("missing", DependencyError, "a_module_that_is_not_there", "pip install"),
        ("disk", StageError, "No such file or directory", "disk"),
        ("memory", StageError, "Out of memory", "memory"),
    ],
)
def test_an_error_keeps_its_type_message_and_hint(
    tmp_path: Path, name: str, kind: type[EdgekitError], message: str, hint: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        call(tmp_path, name)
    assert type(caught.value) is kind
    assert hint in caught.value.hint


@pytest.mark.parametrize(("name", "last"), [("bug", "an unexpected value: 17"), ("no_json", "JSON compliant")])
def test_a_bug_is_a_failed_stage_with_the_end_of_its_log(tmp_path: Path, name: str, last: str) -> None:
    with pytest.raises(StageError, match=r"the step: its process ended with code 1") as caught:
        call(tmp_path, name)
    assert last in caught.value.message


@pytest.mark.parametrize(
    ("name", "signal_name"), [("segfault", "SIGSEGV"), ("killed", "SIGKILL"), ("aborted", "SIGABRT")]
)
def test_a_violent_death_is_named(tmp_path: Path, name: str, signal_name: str) -> None:
    with pytest.raises(StageError, match=f"the step: its process died with {signal_name}") as caught:
        call(tmp_path, name)
    assert ("memory" in caught.value.hint) == (signal_name == "SIGKILL")


def test_an_end_without_a_result_is_a_failure_also_with_code_0(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="code 0 and no result") as caught:
        call(tmp_path, "leave")
    assert "last words" in caught.value.message


def test_an_interrupt_of_the_parent_ends_the_child(tmp_path: Path) -> None:
    def interrupt(done: float, text: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call(tmp_path, "sleep", interrupt)
    assert not is_alive(int((tmp_path / "out" / "pid").read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_the_child_dies_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    code = (
        "from pathlib import Path; from edgekit import worker; "
        f"out = Path({str(tmp_path / 'out')!r}); say = lambda done, text: print(text, flush=True); "
        "worker.run('steps_of_this_test:sleep', {}, out, say, label='the step')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent:
        assert parent.stdout.read(1), "the child has said that it runs"
        child = int((tmp_path / "out" / "pid").read_text())
        assert is_alive(child)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        deadline = time.monotonic() + 20
        while is_alive(child) and time.monotonic() < deadline:
            time.sleep(0.02)
    assert not is_alive(child)


def test_the_request_names_everything_the_child_was_given(tmp_path: Path) -> None:
    call(tmp_path, "echo", number=3)
    request = json.loads((tmp_path / "out" / worker.REQUEST).read_text())
    assert request == {"function": "steps_of_this_test:echo", "arguments": {"number": 3}}


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
