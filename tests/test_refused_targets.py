"""A target that takes nothing that can be made of the model: said before any work, and exit code 4 at the end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from project import FASHION, TARGET, edgekit, edit, fashion, report_of
from small_onnx import write

from edgekit import recipe as recipes
from edgekit import target
from edgekit.plan import plan
from edgekit.profile.verdict import exit_code, refused
from edgekit.report import html, markdown
from edgekit.report.json import load
from edgekit.report.schema import Outcome, TargetReport

pytestmark = pytest.mark.slow
JETSON = "jetson-orin-nano"
WHY = "no ONNX from a TFLite model; give the model it was converted from."


@pytest.fixture
def recipe(finished: Path, tmp_path: Path) -> Path:
    """A recipe of a TFLite file, of which a Jetson gets nothing."""
    folder = fashion(tmp_path / "fashion", "")
    shutil.copyfile(finished / "out/variants/tflite-float32-original.tflite", folder / "model.tflite")
    edit(folder, '"model.keras"', '"model.tflite"')
    edit(folder, f'"{TARGET}"', f'"{JETSON}", "{TARGET}"')
    return folder


def judged(outcome: Outcome) -> TargetReport:
    return refused("a", "A", "arm", WHY).model_copy(update={"outcome": outcome})


def test_a_build_with_a_skipped_target_ends_in_4_and_the_gate_says_it_once(recipe: Path) -> None:
    out = recipe / "out"
    done = edgekit("build", "-c", recipe, "-o", out)
    assert done.code == 4, done.err
    before_any_work, _, _ = done.err.partition("✓")
    assert f"✗ {JETSON}: the model cannot go there: {WHY}" in before_any_work
    assert f"✗ {JETSON}: the model cannot go there" in done.out
    report = report_of(out)
    assert report["exit_code"] == 4
    verdicts = {target["target"]: target for target in report["targets"]}
    assert verdicts[TARGET]["outcome"] == "passed"
    assert (out / verdicts[TARGET]["bundle"] / "model.json").is_file()
    assert verdicts[JETSON]["outcome"] == "failed"
    assert not (out / "artifacts" / JETSON).exists()
    for page in (markdown.render(load(out)), html.render(load(out))):
        assert "the model cannot go there" in page.lower()

    checked = edgekit("check", out, "--json")
    assert checked.code == 7
    found = json.loads(checked.out)["findings"]
    failed = [(item["rule"], item["target"]) for item in found if item["found"] == "failed"]
    assert failed == [("nothing-ships", JETSON)]
    assert edgekit("check", out, "--baseline", out).code == 7


def test_a_dry_run_ends_as_the_build_would(recipe: Path) -> None:
    done = edgekit("build", "-c", recipe, "--dry-run", "--json")
    assert done.code == 4
    assert json.loads(done.out)["refused"] == {JETSON: WHY}
    done = edgekit("build", "-c", recipe, "--dry-run", "-t", TARGET)
    assert done.code == 0


def test_no_target_at_all_ends_in_4_before_any_work(recipe: Path) -> None:
    done = edgekit("build", "-c", recipe, "-o", recipe / "out", "-t", JETSON)
    assert done.code == 4
    assert WHY in done.err
    assert "edgekit inspect" in done.err
    assert not (recipe / "out").exists()


def test_an_onnx_operator_that_a_runtime_lacks_is_said_before_any_work(tmp_path: Path) -> None:
    write(tmp_path / "model.onnx", {"scores": (1, 10)}, last="HardSwish")
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(8, 3, 64, 64)).astype(np.float32))
    np.savez(tmp_path / "y.npz", x=np.random.default_rng(1).normal(size=(8, 3, 64, 64)).astype(np.float32))
    (tmp_path / "edgekit.toml").write_text(
        '[model]\npath = "model.onnx"\n[data]\nkind = "npz"\ntest = "x.npz"\ncalibration = "y.npz"\n'
        f'[targets]\nnames = ["jetson-nano", "{JETSON}"]\n'
    )
    done = edgekit("build", "-c", tmp_path, "--dry-run", "--json")
    assert done.code == 4, done.err
    found = json.loads(done.out)["refused"]
    assert list(found) == ["jetson-nano"]
    assert found["jetson-nano"].startswith("HardSwish at ")
    assert found["jetson-nano"].endswith(": TensorRT has no such operator")


def test_pruning_waits_until_the_unpruned_model_went_to_every_format() -> None:
    names = ["raspberry-pi-4", "jetson-nano"]
    written = recipes.load(FASHION / "edgekit.toml", {"targets.names": names})
    steps = plan(written, [target.load(name) for name in names], "keras", {}).steps
    assert set(steps["prune"].after) == {"tflite-float32-original", "onnx-float32-original"} <= steps.keys()


def test_what_failed_counts_more_than_a_refusal_and_a_refusal_more_than_a_miss() -> None:
    assert exit_code([judged("passed"), judged("missed")], refusals=1) == 4
    assert exit_code([judged("passed"), judged("failed")], refusals=1) == 5
    assert exit_code([judged("passed"), judged("unscored")]) == 5
