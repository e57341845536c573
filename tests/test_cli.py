"""Every command through the real command line: what it prints, what it writes, what it ends in."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from project import TARGET, digests, edgekit, fashion

from edgekit import __version__, build, cli

COMMANDS = (
    "build", "prune", "quantize", "convert", "profile", "evaluate", "diagnose", "inspect", "init", "targets",
    "report", "devices", "schema", "env", "check", "compare", "lock", "verify",
)  # fmt: skip


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return fashion(tmp_path / "fashion")


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "fashion"))


def read(*arguments: object) -> Any:
    """Run a command that must succeed and print JSON, and nothing else, on stdout."""
    done = edgekit(*arguments)
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_every_command(name: str) -> None:
    done = edgekit(name, "--help")
    assert done.code == 0, done.err
    assert "Usage" in done.out
    assert name in done.out


def test_help_lists_exactly_these_commands() -> None:
    assert sorted(item.name or item.callback.__name__ for item in cli.app.registered_commands if item.callback) == (
        sorted(COMMANDS)
    )


def test_version() -> None:
    done = edgekit("--version")
    assert (done.code, done.out) == (0, f"edgekit {__version__}\n")


@pytest.mark.parametrize("arguments", [["bild"], ["build", "--no-such-flag"], ["profile"]])
def test_wrong_usage_exits_2(arguments: list[str]) -> None:
    done = edgekit(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert "Error" in done.err


def test_targets() -> None:
    found = {item["name"]: item for item in read("targets", "--json")}
    assert TARGET in found
    assert found[TARGET]["sources"]
    assert read("targets", TARGET, "--json") == [found[TARGET]]
    assert TARGET in edgekit("targets").out


@pytest.mark.parametrize("what", ["report", "recipe", "target"])
def test_schemas_are_schemas(what: str) -> None:
    found = read("schema", what)
    jsonschema.Draft202012Validator.check_schema(found)
    assert found["properties"]


def test_schema_of_something_else_exits_2() -> None:
    done = edgekit("schema", "model")
    assert done.code == 2
    assert "report, recipe, target" in done.err


def test_inspect(recipe: Path) -> None:
    found = read("inspect", recipe / "model.keras", "--json")
    assert found["format"] == "keras"
    assert found["parameters"] > 1000
    assert "Keras" in edgekit("inspect", recipe / "model.keras").out


def test_env() -> None:
    assert read("env", "--json")["edgekit"] == __version__
    assert "ai-edge-litert" in edgekit("env").out


def test_dry_run_plans_and_writes_nothing(recipe: Path) -> None:
    before = digests(recipe)
    found = read("build", "-c", recipe, "-o", recipe / "out", "--dry-run", "--json")
    assert {step["stage"] for step in found["steps"]} == {"convert", "quantize", "profile"}
    assert found["verdicts"] == [{"target": TARGET, "format": "tflite", "variants": ["float32", "int8"]}]
    assert digests(recipe) == before
    assert f"{len(found['steps'])} steps" in edgekit("build", "-c", recipe, "--dry-run").out


def test_target_flag_and_model_argument_override_the_recipe(recipe: Path) -> None:
    moved = (recipe / "model.keras").rename(recipe / "other.keras")
    found = read("build", moved, "-c", recipe, "-t", "browser", "--dry-run", "--json")
    assert {item["target"] for item in found["verdicts"]} == {"browser"}


def test_a_bug_exits_70_and_leaves_a_log(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("a bug of ours")

    monkeypatch.setattr(build, "prepare", broken)
    monkeypatch.setattr(sys, "argv", ["edgekit", "build", "-c", str(recipe)])
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 70
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "ZeroDivisionError: a bug of ours" in printed.err
    [log] = tmp_path.glob("edgekit-bug-*.md")
    assert str(log) in printed.err
    text = log.read_text()
    assert "Traceback" in text
    assert __version__ in text
    assert f"edgekit build -c {recipe}" in text


@pytest.mark.slow
def test_report_validates_against_its_schema_and_prints_in_every_form(finished: Path) -> None:
    run = finished / "out"
    report = json.loads((run / "report.json").read_text())
    jsonschema.validate(report, read("schema", "report"))
    broken = {**report, "exit_code": "zero"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, read("schema", "report"))
    assert read("report", run, "--format", "json") == report
    markdown = edgekit("report", run, "--format", "md")
    assert markdown.code == 0
    assert markdown.out == (run / "report.md").read_text()
    assert "<html" in edgekit("report", run / "report.json", "-f", "html").out


@pytest.mark.slow
def test_report_of_what_is_not_a_build_exits_2(finished: Path, tmp_path: Path) -> None:
    assert edgekit("report", tmp_path).code == 2
    assert edgekit("report", finished / "out", "-f", "pdf").code == 2
    (tmp_path / "report.json").write_text((finished / "out/report.json").read_text()[:500])
    done = edgekit("report", tmp_path)
    assert done.code == 2
    assert "report.json" in done.err


@pytest.mark.slow
def test_build_json_is_the_report(copied: Path) -> None:
    found = read("build", "-c", copied, "-o", copied / "out", "--json")
    assert found == json.loads((copied / "out/report.json").read_text())


@pytest.mark.slow
def test_evaluate_agrees_with_the_report(finished: Path) -> None:
    report = json.loads((finished / "out/report.json").read_text())
    [row] = [row for row in report["targets"][0]["variants"] if row["name"] == "int8"]
    found = read("evaluate", finished / "out" / row["file"], "-c", finished, "--json")
    assert found["metric"] == row["accuracy"]["metric"]
    assert found["value"] == row["accuracy"]["value"]
    assert found["samples"] == 60


@pytest.mark.slow
def test_profile_times_float_and_int8_in_one_run(finished: Path) -> None:
    files = [finished / f"out/variants/tflite-{name}-original.tflite" for name in ("float32", "int8")]
    found = read("profile", *files, "--seconds", "0.1", "--accuracy", "-c", finished, "--json")
    assert list(found) == [str(path) for path in files]
    report = json.loads((finished / "out/report.json").read_text())
    known = {row["file"]: row["accuracy"]["value"] for row in report["targets"][0]["variants"]}
    for path, figure in found.items():
        assert figure["accuracy"]["value"] == known[str(Path(path).relative_to(finished / "out"))]
        assert figure["place"] == "host"
        assert 0 < figure["min_ms"] <= figure["p50_ms"] <= figure["p99_ms"]
    shown = edgekit("profile", *files, "--seconds", "0.1")
    assert shown.code == 0, shown.err
    assert "never a board's figure" in shown.out


def test_profile_of_no_artifact_exits_2(recipe: Path) -> None:
    done = edgekit("profile", recipe / "model.keras")
    assert done.code == 2
    assert "neither .tflite nor .onnx" in done.err
    assert edgekit("evaluate", recipe / "none.tflite", "-c", recipe).code == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "products"),
    [
        ("prune", {"pruned.keras", "pruned.json", "curve/keep-0.5000-seed-0.keras"}),
        ("quantize", {"tflite-int8-original.json", "tflite-int8-pruned.json"}),
        (
            "convert",
            {f"tflite-{kind}-{model}.tflite" for kind in ("float32", "int8") for model in ("original", "pruned")},
        ),
    ],
)
def test_one_stage_writes_its_products(copied: Path, stage: str, products: set[str]) -> None:
    out = copied / "out"
    written = [Path(item) for item in read(stage, "-c", copied, "-o", out, "--json")]
    assert {path.relative_to(out / stage).as_posix() for path in written} == products
    assert all(path.stat().st_size > 0 for path in written)
    if stage == "convert":
        built = digests(out / "variants")
        repaired = {name for name in built if ".float." in name}  # the float side of a repaired model, for diagnose
        assert digests(out / "convert") == {name: built[name] for name in built.keys() - repaired}


@pytest.mark.parametrize("value", ["soon", "-3s", "0", "infs", "nan"])
def test_a_time_budget_that_is_no_time_exits_2(recipe: Path, value: str) -> None:
    done = edgekit("build", "-c", recipe, "--dry-run", f"--time-budget={value}")
    assert done.code == 2, done.err
    assert "is no time" in done.err


@pytest.mark.parametrize("value", ["20s", "2.5m", "1h", "90"])
def test_a_time_budget_is_taken(recipe: Path, value: str) -> None:
    assert edgekit("build", "-c", recipe, "--dry-run", "--time-budget", value).code == 0


@pytest.mark.slow
def test_diagnose_finds_the_float_file_beside_a_variant(finished: Path, tmp_path: Path) -> None:
    file = finished / "out/variants/tflite-int8-original.tflite"
    found = read("diagnose", file, "-c", finished, "--samples", 4, "--time-budget", "5s", "--json")
    assert found["samples"] == 4
    assert found["layers"]
    assert found["metric"] == "top-1"
    assert any(each["float_metric"] is not None for each in found["classes"])
    page = tmp_path / "why.html"
    done = edgekit("diagnose", file, "-c", finished, "--samples", 4, "--time-budget", "5s", "--html", page)
    assert done.code == 0, done.err
    assert "relative error" in done.out
    assert "worst samples" in done.out
    assert "Why tflite-int8-original.tflite answers otherwise" in page.read_text()


def test_a_page_in_a_folder_that_is_not_there_is_refused_before_the_work(finished: Path, tmp_path: Path) -> None:
    file = finished / "out/variants/tflite-int8-original.tflite"
    done = edgekit("diagnose", file, "-c", finished, "--html", tmp_path / "nowhere/why.html")
    assert done.code == 2, done.err
    assert "nowhere" in done.err


def test_diagnose_without_a_float_file_says_how_to_name_one(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "alone.tflite").write_bytes(b"TFL3")
    done = edgekit("diagnose", tmp_path / "alone.tflite", "-c", recipe)
    assert done.code == 2, done.err
    assert "--against" in done.err


@pytest.mark.slow
def test_check_of_a_run_and_of_a_run_against_itself(finished: Path) -> None:
    run = finished / "out"
    alone = edgekit("check", run)
    assert alone.code == 0, alone.out
    assert "check passed" in alone.out
    found = read("check", run, "--baseline", run / "report.json", "--json")
    assert found["passed"]
    assert {item["metric"] for item in found["findings"]} >= {"accuracy", "size", "speedup", "accuracy_drop"}


@pytest.mark.slow
def test_check_prints_one_line_per_violation_and_exits_7(finished: Path, tmp_path: Path) -> None:
    report = json.loads((finished / "out/report.json").read_text())
    for row in report["targets"][0]["variants"]:
        row["size_bytes"] *= 2
    (tmp_path / "report.json").write_text(json.dumps(report))
    done = edgekit("check", tmp_path, "--baseline", finished / "out", "--quiet")
    assert done.code == 7, done.err
    *violations, last = done.out.splitlines()
    assert len(violations) == 1
    assert "size" in violations[0]
    assert "1 violation" in last
    (tmp_path / "edgekit.toml").write_text((finished / "edgekit.toml").read_text() + "[check]\nsize_percent = false\n")
    assert edgekit("check", tmp_path, "-b", finished / "out", "-c", tmp_path / "edgekit.toml").code == 0


@pytest.mark.slow
def test_check_refuses_what_cannot_be_compared(finished: Path, tmp_path: Path) -> None:
    text = (finished / "out/report.json").read_text()
    (tmp_path / "report.json").write_text(text.replace('"test_sha256": "', '"test_sha256": "0'))
    done = edgekit("check", tmp_path, "--baseline", finished / "out")
    assert done.code == 2
    assert "test data" in done.err
    assert edgekit("check", tmp_path, "--baseline", finished / "out", "--allow-different").code == 0
    assert edgekit("check", tmp_path / "nowhere").code == 2


@pytest.mark.slow
def test_build_check_ends_in_the_checks_exit_code(copied: Path, tmp_path: Path) -> None:
    report = json.loads((copied / "out/report.json").read_text())
    shutil.copyfile(copied / "out/report.json", tmp_path / "same.json")
    for row in report["targets"][0]["variants"]:
        row["accuracy"]["value"] -= 0.1
    (tmp_path / "worse.json").write_text(json.dumps(report))
    assert edgekit("build", "-c", copied, "-o", copied / "out", "--baseline", tmp_path / "same.json").code == 0
    done = edgekit("build", "-c", copied, "-o", copied / "out", "--check", "--baseline", tmp_path / "worse.json")
    assert done.code == 7, done.err
    assert "10 points better" in done.out
    assert edgekit("build", "-c", copied, "-o", copied / "out", "--baseline", tmp_path / "none.json").code == 2
