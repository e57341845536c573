"""A plan's steps: what waits for what, what runs side by side, what a failure and an interrupt leave."""

import itertools
import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgekit import pipeline, worker
from edgekit.errors import EdgekitError, StageError
from edgekit.steps import BuildPlan, Ref, Step
from edgekit.store import Store

STEPS = """
import os, time
from pathlib import Path
from edgekit.errors import StageError

def note(*, out, progress, folder, name, inputs=(), seconds=0.0):
    folder = Path(folder)
    began = time.monotonic()
    time.sleep(seconds)
    (out / "made").write_text(name)
    with open(folder / "log", "a") as log:
        log.write(f"{name} {began} {time.monotonic()}\\n")
    return {"read": [Path(path).read_text() for path in inputs]}

def meet(*, out, progress, folder, name, other):
    folder = Path(folder)
    (folder / name).touch()
    for _ in range(3000):
        if (folder / other).exists():
            return {"met": True}
        time.sleep(0.01)
    raise StageError("the other step never ran beside this one")

def told(*, out, progress, jobs): return {"jobs": jobs}

def fail(*, out, progress, name): raise StageError("it does not work")

def hang(*, out, progress, folder):
    (Path(folder) / f"pid-{os.getpid()}").touch()
    progress(0.5, "hanging")
    time.sleep(120)
"""


class Heard:
    """An observer that remembers, and from which thread it was called."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.threads: set[int] = set()

    def _hear(self, what: str, step: Step) -> None:
        self.told.append((what, step.id))
        self.threads.add(threading.get_ident())

    def planned(self, steps: int) -> None: ...

    def started(self, step: Step) -> None:
        self._hear("started", step)

    def progressed(self, step: Step, done: float, text: str) -> None:
        self._hear("progressed", step)

    def finished(self, step: Step, reused: bool) -> None:
        self._hear("reused" if reused else "finished", step)

    def failed(self, step: Step, error: EdgekitError) -> None:
        self._hear("failed", step)

    def skipped(self, step: Step, because: str) -> None:
        self._hear(f"skipped for {because}", step)


@pytest.fixture(autouse=True)
def _steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "steps_of_a_plan.py").write_text(STEPS)
    project = str(Path(worker.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), project]))


def step(name: str, function: str, /, alone: bool = False, device: str = "", **arguments: Any) -> Step:
    return Step(name, "convert", name, f"steps_of_a_plan:{function}", arguments, alone=alone, device=device)


def read_spans(folder: Path) -> dict[str, tuple[float, float]]:
    lines = [line.split() for line in (folder / "log").read_text().splitlines()]
    return {name: (float(began), float(ended)) for name, began, ended in lines}


def run(folder: Path, *steps: Step, jobs: int = 2, observer: Heard | None = None) -> pipeline.Outcome:
    plan = BuildPlan({each.id: each for each in steps})
    return pipeline.run(plan, Store(folder / "store"), observer or Heard(), jobs)


def test_a_step_reads_what_another_made(tmp_path: Path) -> None:
    folder = str(tmp_path)
    outcome = run(
        tmp_path,
        step("a", "note", folder=folder, name="a", seconds=0.3),
        step("b", "note", folder=folder, name="b", inputs=[Ref("a", "made")]),
        step("c", "note", folder=folder, name="c", inputs=[Ref("b", "made"), Ref("a", "made")]),
        jobs=4,
    )
    assert outcome.entries["b"].result == {"read": ["a"]}
    assert outcome.entries["c"].result == {"read": ["b", "a"]}


def test_steps_that_need_nothing_of_each_other_run_side_by_side(tmp_path: Path) -> None:
    folder = str(tmp_path)
    observer = Heard()
    outcome = run(
        tmp_path,
        step("a", "meet", folder=folder, name="a", other="b"),
        step("b", "meet", folder=folder, name="b", other="a"),
        observer=observer,
    )
    assert {entry.result["met"] for entry in outcome.entries.values()} == {True}
    assert observer.threads == {threading.get_ident()}, "an observer needs no lock"


def test_one_job_is_one_step_at_a_time_in_the_order_of_the_plan(tmp_path: Path) -> None:
    names = ["a", "b", "c"]
    run(tmp_path, *(step(n, "note", folder=str(tmp_path), name=n) for n in names), jobs=1)
    assert [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()] == names


def test_a_timing_step_runs_alone(tmp_path: Path) -> None:
    folder = str(tmp_path)
    run(
        tmp_path,
        step("a", "note", folder=folder, name="a", seconds=0.2),
        step("timing", "note", alone=True, folder=folder, name="timing", seconds=0.2),
        step("b", "note", folder=folder, name="b", seconds=0.2),
        step("c", "note", folder=folder, name="c", seconds=0.2, inputs=[Ref("timing", "made")]),
        jobs=4,
    )
    spans = read_spans(tmp_path)
    began, ended = spans.pop("timing")
    assert len(spans) == 3
    assert all(other[1] <= began or other[0] >= ended for other in spans.values())


@pytest.fixture
def lying_here(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Let addresses stand for devices that need not be reached."""
    attached = {"ssh://one": "a board", "ssh://two": "another"}
    monkeypatch.setattr(pipeline, "identity_of", lambda address, *_: {"cpu": attached[address.partition("?")[0]]})
    return attached


def test_devices_work_side_by_side_whatever_the_jobs(tmp_path: Path, lying_here: dict[str, str]) -> None:
    folder = str(tmp_path)
    outcome = run(
        tmp_path,
        step("a", "meet", device="ssh://one", folder=folder, name="a", other="b"),
        step("b", "meet", device="ssh://two", folder=folder, name="b", other="c"),
        step("c", "meet", folder=folder, name="c", other="a"),
        jobs=1,
    )
    assert len(outcome.entries) == 3


def test_a_device_has_one_step_at_a_time_and_none_beside_a_timing(tmp_path: Path, lying_here: dict[str, str]) -> None:
    folder = str(tmp_path)
    run(
        tmp_path,
        step("a", "note", device="ssh://one", folder=folder, name="a", seconds=0.2),
        step("timing", "note", alone=True, folder=folder, name="timing", seconds=0.2),
        step("b", "note", device="ssh://one?runtime=tensorrt", folder=folder, name="b", seconds=0.2),
        jobs=4,
    )
    spans = sorted(read_spans(tmp_path).values())
    assert len(spans) == 3
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_another_device_at_the_same_address_is_measured_again(tmp_path: Path, lying_here: dict[str, str]) -> None:
    def told() -> set[str]:
        observer = Heard()
        run(tmp_path, step("a", "note", device="ssh://one", folder=str(tmp_path), name="a"), observer=observer)
        return {what for what, _ in observer.told} & {"finished", "reused"}

    assert told() == {"finished"}
    assert told() == {"reused"}
    lying_here["ssh://one"] = "a board that took its place"
    assert told() == {"finished"}


def test_what_needs_a_failed_step_is_skipped_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder = str(tmp_path)
    observer = Heard()
    outcome = run(
        tmp_path,
        step("bad", "fail", name="bad"),
        step("child", "note", folder=folder, name="child", inputs=[Ref("bad", "made")]),
        step("grandchild", "note", folder=folder, name="grandchild", inputs=[Ref("child", "made")]),
        step("other", "note", folder=folder, name="other"),
        observer=observer,
    )
    assert set(outcome.entries) == {"other"}
    assert outcome.errors["bad"].message == "it does not work"
    assert outcome.blame("grandchild") == "bad"
    assert ("skipped for bad", "grandchild") in observer.told


def test_a_step_after_others_starts_once_one_of_them_is_there_and_never_where_all_failed(tmp_path: Path) -> None:
    folder = str(tmp_path)
    late = step("late", "note", folder=folder, name="late")
    outcome = run(
        tmp_path,
        replace(late, after=("bad", "slow")),
        replace(step("never", "note", folder=folder, name="never"), after=("bad",)),
        step("bad", "fail", name="bad"),
        step("slow", "note", folder=folder, name="slow", seconds=0.3),
        jobs=4,
    )
    spans = read_spans(tmp_path)
    assert spans["slow"][1] <= spans["late"][0]
    assert set(outcome.entries) == {"late", "slow"}
    assert outcome.blame("never") == "bad"


def test_a_plan_that_cannot_go_on_is_an_error_and_no_hang(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wait for what no step makes: a"):
        run(tmp_path, replace(step("a", "note", folder=str(tmp_path), name="a"), after=("nothing",)))


def test_the_second_run_reuses_everything(tmp_path: Path) -> None:
    steps = [step(n, "note", folder=str(tmp_path), name=n) for n in "ab"]
    run(tmp_path, *steps)
    observer = Heard()
    run(tmp_path, *steps, observer=observer)
    assert {what for what, _ in observer.told} == {"started", "reused"}


def test_a_parallel_step_is_told_the_jobs_and_made_once_whatever_they_are(tmp_path: Path) -> None:
    parallel = replace(step("a", "told"), parallel=True)
    assert run(tmp_path, parallel, jobs=3).entries["a"].result == {"jobs": 3}
    again = run(tmp_path, parallel, jobs=1).entries["a"]
    assert again.reused
    assert again.result == {"jobs": 3}


def test_an_interrupt_ends_every_child_at_once(tmp_path: Path) -> None:
    class Impatient(Heard):
        def progressed(self, step: Step, done: float, text: str) -> None:
            super().progressed(step, done, text)
            if len({name for what, name in self.told if what == "progressed"}) == 2:
                raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(
            tmp_path,
            step("a", "hang", folder=str(tmp_path)),
            step("b", "hang", folder=f"{tmp_path}/"),
            observer=Impatient(),
        )
    assert time.monotonic() - began < 60, "far less than the children would sleep"
    pids = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    assert len(pids) == 2
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert list((tmp_path / "store" / "tmp").iterdir()) == []


def test_no_child_starts_after_the_end(tmp_path: Path) -> None:
    children = worker.Children()
    children.end()
    with pytest.raises(StageError, match="ended"):
        worker.run("steps_of_a_plan:fail", {}, tmp_path, lambda done, text: None, label="late", children=children)
