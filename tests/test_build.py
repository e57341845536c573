"""Whole builds: what is reused, what is redone, what a miss or a failure ends in, and every kind of source."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from project import DETECTOR, FASHION, ONE_EPOCH, Done, begin, digests, edgekit, edit, fashion, made, report_of

from edgekit import build as builder
from edgekit.errors import EdgekitError
from edgekit.steps import Step

pytestmark = pytest.mark.slow


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """The finished recipe and its build, free to change."""
    return Path(shutil.copytree(finished, tmp_path / "fashion"))


class Silent:
    """Hears of the steps and keeps what became of them."""

    def __init__(self) -> None:
        self.became: dict[str, str] = {}

    def planned(self, steps: int) -> None: ...

    def started(self, step: Step) -> None: ...

    def progressed(self, step: Step, done: float, text: str) -> None: ...

    def finished(self, step: Step, reused: bool) -> None:
        self.became[step.id] = "reused" if reused else "made"

    def failed(self, step: Step, error: EdgekitError) -> None:
        self.became[step.id] = "failed"

    def skipped(self, step: Step, because: str) -> None:
        self.became[step.id] = "skipped"


def build(folder: Path, *more: object) -> Done:
    return edgekit("build", "-c", folder, "-o", folder / "out", *more)


def rows(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for target in report["targets"] for row in target["variants"]}


def test_a_build_scores_and_times_every_variant(finished: Path) -> None:
    report = report_of(finished / "out")
    found = rows(report)
    assert set(found) == {"float32", "pruned-float32", "int8", "pruned-int8"}
    for row in found.values():
        assert row["accuracy"]["samples"] == 60
        assert row["latency"]["min_ms"] > 0
        assert (finished / "out" / row["file"]).stat().st_size == row["size_bytes"]
        assert digests(finished / "out")[row["file"]] == row["sha256"]
    assert report["warnings"] == []  # calibration and test samples are alike
    [target] = report["targets"]
    assert found[target["shipped"]]["status"] == "shipped"
    assert (finished / "out" / target["bundle"] / "model.json").is_file()


def test_a_build_says_what_was_planned_and_which_answers_changed(finished: Path) -> None:
    report = report_of(finished / "out")
    found = rows(report)
    for name in ("int8", "pruned-int8"):
        planned = found[name]["planned"]
        assert [op["kind"] for op in planned if op["macs"]][:2] == ["CONV_2D", "CONV_2D"]
        precisions = {op["precision"].removesuffix("-dynamic") for op in planned}
        assert {"int8", "float32"} <= precisions <= {"int8", "int8-weights", "float32"}
        assert all(op["reason"] for op in planned if op["precision"] in ("int8-weights", "float32"))
    assert found["float32"]["planned"] == []
    [target] = report["targets"]
    compared = found[target["shipped"]]["disagreements"]
    assert compared["samples"] == 60
    assert compared["differing"] >= len(compared["shown"])
    lost = found[target["shipped"]]["accuracy"]["drop_points"] / 100 * 60
    assert compared["lost"] - compared["won"] == pytest.approx(lost)  # the same labels, counted another way
    assert "Where float32 and" in (finished / "out/report.html").read_text()


def test_a_build_says_what_int8_does_to_each_layer(finished: Path) -> None:
    found = rows(report_of(finished / "out"))
    [target] = report_of(finished / "out")["targets"]
    layers = found[target["shipped"]]["layers"]
    assert len(layers) > 4
    assert all(layer["sqnr_db"] > 5 for layer in layers if layer["sqnr_db"] is not None)
    assert all(not row["layers"] for name, row in found.items() if name != target["shipped"])
    assert f"What int8 does to each layer of {target['shipped']}" in (finished / "out/report.html").read_text()


def test_a_rerun_reuses_every_step_and_is_fast(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = digests(copied / "out/variants"), made(copied / "out/artifacts")
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    done = build(copied)
    assert done.code == 0, done.err
    assert all(line.endswith("reused") for line in done.lines())
    assert len(done.lines()) == 20
    imported = {line.rpartition("|")[2].strip() for line in done.err.splitlines() if line.startswith("import time:")}
    assert "edgekit.build" in imported
    assert not imported & {"tensorflow", "keras"}  # 0.8 s on an idle machine; these alone take 5 s
    assert (digests(copied / "out/variants"), made(copied / "out/artifacts")) == before


def test_a_missed_budget_exits_7_and_redoes_nothing(copied: Path) -> None:
    edit(copied, "[budget]\n", "[budget]\nspeedup = 1000\n")
    done = build(copied)
    assert done.code == 7, done.err
    assert all(line.endswith("reused") for line in done.lines()), "a budget changes no file"
    [target] = report_of(copied / "out")["targets"]
    assert target["outcome"] == "missed"
    assert [item["passed"] for item in target["budgets"] if item["name"].startswith("speed")] == [False]
    assert "1000" in done.out


def test_the_folder_holds_exactly_the_last_build(copied: Path) -> None:
    own = copied / "out/artifacts/raspberry-pi-4/notes.txt"
    own.write_text("a file of the user's")
    done = build(copied, "-t", "raspberry-pi-5")
    assert done.code == 0, done.err
    report = report_of(copied / "out")
    found = {path.name for path in (copied / "out/artifacts").iterdir()}
    assert found == {"raspberry-pi-4", "raspberry-pi-5"}
    assert [path.name for path in (copied / "out/artifacts/raspberry-pi-4").iterdir()] == ["notes.txt"]
    named = {variant["file"] for target in report["targets"] for variant in target["variants"]}
    there = {path.relative_to(copied / "out").as_posix() for path in (copied / "out/variants").iterdir()}
    repaired = {name for name in there if ".float." in name}  # the float side of a variant, for a diagnosis
    assert named == there - repaired
    assert {name.replace(".float.", ".") for name in repaired} <= named


def test_other_calibration_samples_redo_only_what_reads_them(copied: Path) -> None:
    path = copied / "data/calibration.npz"
    with np.load(path) as stored:
        x = stored["x"]
    np.savez(path, x=x[::-1])
    done = build(copied)
    assert done.code == 0, done.err
    stages = {line.split()[2]: [] for line in done.lines()}
    for line in done.lines():
        stages[line.split()[2]].append(line.endswith("reused"))
    assert all(stages["prune"]), done.err
    assert not any(stages["quantize"]), done.err


def rerun_with(copied: Path, broken: str) -> tuple[builder.Finished, dict[str, str]]:
    """Build again with the function of the step ``broken`` taken away; all others are in the store."""
    prepared = builder.prepare(copied, {}, ["raspberry-pi-4", "raspberry-pi-5"])
    step = prepared.plan.steps[broken]
    step = dataclasses.replace(step, function=step.function.replace(":run", ":no_such_function"))
    prepared.plan.steps[broken] = step
    observer = Silent()
    return builder.run(prepared, copied / "out", observer, jobs=1), observer.became


def test_a_failing_stage_exits_5_and_the_rest_is_judged(copied: Path) -> None:
    done, became = rerun_with(copied, "plan-tflite-int8-pruned")
    assert done.report.exit_code == 5
    assert became["plan-tflite-int8-pruned"] == "failed"
    assert became["emit-tflite-int8-pruned"] == became["score-emit-tflite-int8-pruned"] == "skipped"
    assert became["score-emit-tflite-int8-original"] == "reused"
    assert [failure.targets for failure in done.report.failures] == [["raspberry-pi-4", "raspberry-pi-5"]]
    assert len(done.report.targets) == 2
    for target in done.report.targets:
        found = {row.name: row for row in target.variants}
        assert found["pruned-int8"].status == "unscored"
        assert found["pruned-int8"].file == ""
        assert "plan-tflite-int8-pruned failed" in found["pruned-int8"].cause
        assert found["int8"].accuracy is not None
        assert found["int8"].latency is not None


def test_a_variant_nobody_could_score_never_ships(copied: Path) -> None:
    done, _ = rerun_with(copied, "score-emit-tflite-int8-original")
    assert done.report.exit_code == 5
    for target in done.report.targets:
        found = {row.name: row for row in target.variants}
        assert target.shipped != "int8"
        assert found["int8"].status == "unscored"
        assert found["int8"].accuracy is None
        assert "could not be scored" in found["int8"].cause


def test_an_adapter_that_raises_fails_pruning_and_the_rest_goes_on(finished: Path, tmp_path: Path) -> None:
    folder = fashion(tmp_path / "fashion", f"{ONE_EPOCH}[quantize]\nenabled = false\n")
    begin(finished, folder / "out")
    (folder / "adapter.py").write_text(
        "def encode_labels(boxes, classes, shape):\n    raise KeyError('mine')\ndef loss(*_):\n    pass\n"
    )
    edit(folder, 'kind = "classification"', 'kind = "classification"\nadapter = "adapter.py"')
    done = build(folder)
    assert done.code == 5, done.err
    assert "prune and recover" in done.err
    found = rows(report_of(folder / "out"))
    assert found["float32"]["accuracy"]["samples"] == 60
    assert found["pruned-float32"]["status"] == "unscored"


def scored(folder: Path, *names: str) -> None:
    """Build ``folder``, which must succeed with these variants, all scored."""
    done = build(folder)
    assert done.code == 0, done.err
    found = rows(report_of(folder / "out"))
    assert set(found) == set(names)
    assert all(row["accuracy"]["samples"] == 60 for row in found.values())


def test_generic_task_from_a_saved_model(tmp_path: Path) -> None:
    folder = fashion(tmp_path / "fashion", "")
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    model.export(folder / "saved", format="tf_saved_model", verbose=False)
    edit(folder, '"model.keras"', '"saved"')
    edit(folder, 'kind = "classification"', 'kind = "generic"')
    for name in ("test", "train"):  # a generic task has no labels
        path = folder / f"data/{name}.npz"
        with np.load(path) as stored:
            x = stored["x"]
        np.savez(path, x=x)
    scored(folder, "float32", "int8")


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras with NumPy 2
def test_h5_source(tmp_path: Path) -> None:
    folder = fashion(tmp_path / "fashion")
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    model.save(folder / "model.h5")
    edit(folder, '"model.keras"', '"model.h5"')
    scored(folder, "float32", "int8")


def test_onnx_source_made_by_convert(finished: Path, tmp_path: Path) -> None:
    folder = fashion(tmp_path / "fashion", target="jetson-orin-nano")
    begin(finished, folder / "made")
    done = edgekit("convert", "-c", folder, "-o", folder / "made")
    assert done.code == 0, done.err
    [path] = [Path(line) for line in done.out.splitlines() if "float32" in line]
    shutil.copyfile(path, folder / "model.onnx")
    edit(folder, '"model.keras"', '"model.onnx"')
    done = build(folder)
    assert done.code == 0, done.err
    found = rows(report_of(folder / "out"))
    assert "float32" in found
    assert len(found) > 1
    assert all(row["accuracy"]["samples"] == 60 for row in found.values())


def test_the_samples_are_where_the_tests_look() -> None:
    assert (FASHION / "edgekit.toml").is_file()
    assert (DETECTOR / "edgekit.toml").is_file()
