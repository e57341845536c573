"""Networks that are trained at once, each in a process of its own, are those that one process makes in turn."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil
import pytest

from edgekit import keras_io, worker
from edgekit.artifact import digest
from edgekit.errors import StageError
from edgekit.prune import side_by_side
from edgekit.prune.candidate import CONTROL
from edgekit.prune.recovery.pace import effort
from edgekit.prune.side_by_side import MOST, Wanted, _Board, at_once
from edgekit.recipe import TaskTable
from edgekit.recipe.prune import PruneTable

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
PATIENCE_S = 120
KINDS = {"a": [1.0, 0.0, 0.0], "b": [0.0, 1.0, 0.0]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A labelled classifier to prune, and the way for child processes to find ``stage_beside``."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 3), name="image")
    x = keras.layers.Conv2D(32, 3, activation="relu", name="conv")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, keras.layers.Dense(2, activation="softmax", name="classes")(x))
    model.compile(loss="sparse_categorical_crossentropy")
    keras_io.save(model, tmp_path / "model.keras")
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 24)
    samples = (
        random.random((24, 12, 12, 3), np.float32) * np.array(list(KINDS.values()), np.float32)[labels, None, None]
    )
    np.savez(tmp_path / "samples.npz", x=samples, y=labels)
    return tmp_path


def prune(
    folder: Path, name: str, jobs: int, children: worker.Children | None = None, told: list[str] | None = None,
    others: Path | None = None, student: Path | None = None, **settings: Any,
) -> dict[str, Any]:  # fmt: skip
    """Run the stage with two seeds, a control each; its outputs go to ``name``, what it keeps to ``name-work``."""
    table = PruneTable(
        importance="taylor", epochs=3, batch=8, cost="macs", min_channels=8, round_to=8, keep_macs=0.5, seeds=2,
    ).model_dump(mode="json")  # fmt: skip
    for place in (folder / name, folder / f"{name}-work"):
        place.mkdir(exist_ok=True)
    return worker.run(
        "stage_beside:run",
        {"work": folder / f"{name}-work", "model": folder / "model.keras", "labelled": True, "adapter": None,
         "dataset": arrays(folder / "samples.npz"), "others": arrays(others) if others else None,
         "task": TaskTable(kind="classification").model_dump(mode="json"), "teacher": None, "student": student,
         "costs": [], "precisions": ["float32"], "jobs": jobs,
         "settings": table | {"controls": 2, "moved_share": 0.0, "refit": False} | settings,
         "aim": {"accuracy_drop": 100.0, "speedup": None, "latency_ms": None, "slack": 1.5}},
        folder / name, lambda done, text: told.append(text) if told is not None else None, label="prune",
        children=children, own_cpu=True,
    )  # fmt: skip


def arrays(file: Path) -> dict[str, Any]:
    preprocess = {"size": None, "color": "rgb", "mean": [0.0], "scale": [1.0]}
    return {"kind": "npz", "path": file, "labels": None, "classes": list(KINDS), "preprocess": preprocess}


def networks(folder: Path) -> dict[str, str]:
    return {file.name: digest(file) for file in sorted((folder / "curve").iterdir())}


def same_facts(found: dict[str, Any]) -> dict[str, Any]:
    """Return what must not depend on how many trained at once: all but times."""
    tried = [{name: value for name, value in one.items() if name != "seconds"} for one in found["tried"]]
    timed = {"minutes", "control_minutes", "stage_minutes", "at_once", "tried"}
    return {name: value for name, value in found.items() if name not in timed} | {"tried": tried}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"controls": 1}, {"keep_macs": "auto"}], ids=["given", "searched"])
def test_two_at_a_time_make_the_same_networks_as_one_after_the_other(folder: Path, settings: dict[str, Any]) -> None:
    told: list[str] = []
    alone, beside = prune(folder, "alone", 1, **settings), prune(folder, "beside", 2, told=told, **settings)
    assert (alone["at_once"], beside["at_once"]) == (1, 2)
    assert networks(folder / "beside") == networks(folder / "alone")
    assert same_facts(beside) == same_facts(alone)
    assert len(networks(folder / "alone")) >= 2 + settings.get("controls", 2)
    assert any("2 at a time" in text for text in told)


@pytest.mark.slow
def test_a_student_is_taught_the_same_by_two_at_a_time(folder: Path) -> None:
    """With patience, samples are held apart, and the control comes first: it judges by them."""
    image = keras.Input((12, 12, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, activation="relu")(image))
    file = folder / "student.keras"
    keras_io.save(keras.Model(image, keras.layers.Dense(2, activation="softmax", name="classes")(x)), file)
    asked: dict[str, Any] = {"student": file, "controls": 1, "keep_macs": "auto", "patience": 3}
    alone, beside = prune(folder, "alone", 1, **asked), prune(folder, "beside", 2, **asked)
    assert networks(folder / "beside") == networks(folder / "alone")
    assert same_facts(beside) == same_facts(alone)
    names = ["student-seed-0", "student-seed-1", "control-seed-0"]
    assert [one["name"] for one in alone["tried"]] == names
    assert alone["judged_by"].endswith(", against the control")


@pytest.mark.slow
def test_unlabelled_samples_are_learned_from_the_same_by_two_at_a_time(folder: Path) -> None:
    more = folder / "more.npz"
    np.savez(more, x=np.random.default_rng(1).random((40, 12, 12, 3), np.float32))
    one = {"seeds": 1, "controls": 1}
    without = prune(folder, "without", 2, seeds=1, controls=0)
    assert without["at_once"] == 1, "it was alone"
    alone, beside = prune(folder, "alone", 1, others=more, **one), prune(folder, "beside", 2, others=more, **one)
    assert networks(folder / "beside") == networks(folder / "alone")
    assert not set(networks(folder / "alone").values()) & set(networks(folder / "without").values())
    assert beside["recovery"] == alone["recovery"] == f"{without['recovery']}, also on 40 unlabelled samples"


@pytest.mark.slow
def test_a_killed_stage_leaves_no_training_behind_and_goes_on_with_the_same_bits(folder: Path) -> None:
    both = {"epochs": 150, "seeds": 1, "controls": 1}
    prune(folder, "whole", 1, **both)
    children, ends = worker.Children(), []
    work = folder / "killed-work"

    def begin() -> None:
        try:
            prune(folder, "killed", 2, children, **both)
        except StageError as error:
            ends.append(error)

    stage = threading.Thread(target=begin)
    stage.start()
    wait_until(lambda: len(list(work.glob("*/training.npz"))) == 2)
    assert trainings(work)
    children.end()
    stage.join()
    assert ends, "it was killed before it was done"
    wait_until(lambda: not trainings(work))
    assert len(list(work.glob("*/facts.json"))) < 2
    prune(folder, "killed", 2, **both)
    assert networks(folder / "killed") == networks(folder / "whole")


@pytest.mark.slow
def test_where_one_fails_the_stage_says_why_and_ends_the_other(folder: Path) -> None:
    with pytest.raises(StageError, match=r"recovery: the distillation loss became .* in epoch"):
        prune(folder, "wild", 2, epochs=2000, learning_rate=1e30)
    wait_until(lambda: not trainings(folder / "wild-work"))


def trainings(work: Path) -> list[psutil.Process]:
    """Return the processes whose request lies in ``work``."""
    return [
        each for each in psutil.process_iter(["cmdline"])
        if each.info["cmdline"] and any(part.startswith(str(work)) for part in each.info["cmdline"])
    ]  # fmt: skip


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_trainings_that_are_short_or_time_layers_or_fill_the_memory_stay_in_one_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(side_by_side, "memory_bytes", lambda: 8 << 30)
    long, inputs = {"epochs": 60, "low_rank": False}, {"x": np.zeros((300, 64, 64, 3), np.float32)}
    assert at_once(long, 1e9, inputs, jobs=8) == MOST
    assert at_once(long, 1e9, inputs, jobs=1) == 1
    assert at_once(long, 1e6, inputs, jobs=8) == 1
    assert at_once(long | {"low_rank": True}, 1e9, inputs, jobs=8) == 1
    assert at_once(long, 1e9, {"x": np.broadcast_to(inputs["x"][:1], (30_000, 64, 64, 3))}, jobs=8) == 1, "3 GB twice"


def test_progress_weighs_networks_by_what_they_compute() -> None:
    told: list[tuple[float, str]] = []
    control, cut = Wanted(CONTROL, 0, 1.0), Wanted(0.25, 0, effort(0.25))
    assert (control.name, cut.name) == ("control-seed-0", "keep-0.2500-seed-0")
    board = _Board([control, cut], 4, lambda done, text: told.append((done, text)))
    board.tell(cut, 0.5)
    board.tell(cut, 1.0)
    board.tell(control, 1.0)
    small = (3 * 0.25 + 1) / 4  # of a step's four passes, the teacher's stays
    assert [done for done, _ in told] == pytest.approx([small / 2 / (1 + small), small / (1 + small), 1.0])
    assert [text.split(",")[0] for _, text in told] == [f"{made} of 4 networks trained" for made in (2, 3, 4)]


def test_the_time_left_is_estimated_from_what_was_done_since_the_build_went_on(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    first, second = Wanted(CONTROL, 0, 1.0), Wanted(CONTROL, 1, 1.0)
    board = _Board([first, second], 2, lambda done, text: told.append(text))

    def tell(minute: float, wanted: Wanted, done: float) -> None:
        monkeypatch.setattr(side_by_side.time, "monotonic", lambda: 60.0 * (minute + 1))
        board.tell(wanted, done)

    tell(0, first, 0.5)  # it was half done when the build was killed
    tell(0, second, 0.1)
    tell(10, first, 0.6)
    assert "min left" not in told[0] + told[1]
    assert told[2].endswith(", about 130 min left"), "1.3 trainings, a tenth of one in 10 minutes"
    tell(10, second, 0.2)
    assert told[3].endswith(", about 60 min left")
