"""Runs side by side: every run of every target, the change against the first, and what forbids comparing."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from project import edgekit
from runs import JETSON, PI, shipped, sound, with_latency, with_shipped, with_target

from edgekit.gate.compare import compare
from edgekit.report.comparison import APART, render
from edgekit.report.json import render as render_json


def test_each_row_holds_the_change_against_the_first() -> None:
    found = compare({"a": sound(), "b": with_shipped(sound(), size_bytes=shipped(sound()).size_bytes // 2)})
    assert [(row.target, row.run) for row in found.rows] == [(PI, "a"), (PI, "b"), (JETSON, "a"), (JETSON, "b")]
    first, second = found.rows[:2]
    assert first.figures["size"].change is None
    assert second.figures["size"].change == pytest.approx(50)
    assert second.figures["accuracy"].change == 0
    assert not found.differences
    assert "speedup" not in found.rows[2].figures  # never timed
    text = render(found)
    assert "301 kB (−50 %)" in text  # noqa: RUF001 - a true minus sign
    assert "(±0)" in text


def test_what_cannot_be_compared_is_marked_and_said() -> None:
    found = compare({"a": sound(), "b": with_latency(sound(), machine="Other CPU")})
    second = found.rows[1]
    assert not second.figures["speedup"].comparable
    assert second.figures["accuracy"].comparable
    assert "Other CPU" in found.differences[0]
    assert f"6.09x{APART}" in render(found)


def test_a_run_without_a_target_or_with_nothing_to_ship_has_a_row_of_its_own() -> None:
    less = with_target(sound(targets=sound().targets[:1]), shipped="", outcome="failed")
    found = compare({"a": sound(), "b": less})
    assert [(row.target, row.run) for row in found.rows] == [(PI, "a"), (PI, "b"), (JETSON, "a")]
    assert found.rows[1].figures == {}
    assert "**nothing**" in render(found)


def test_the_command_in_80_columns_as_json_and_as_markdown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    for name in ("main", "faster", "other"):
        (tmp_path / name / "edgekit-build").mkdir(parents=True)
        (tmp_path / name / "edgekit-build/report.json").write_text(render_json(sound()))
        runs.append(tmp_path / name / "edgekit-build")
    monkeypatch.setattr("project.environment", lambda: {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"})
    done = edgekit("compare", *runs)
    assert done.code == 0, done.err
    assert max(map(len, done.out.splitlines())) <= 80
    assert "faster" in done.out
    assert "edgekit-build" not in done.out  # what all have in common is left away
    assert len(json.loads(edgekit("compare", *runs, "--json").out)["rows"]) == 6
    assert edgekit("compare", *runs, "--markdown").out.startswith("## edgekit")
    assert edgekit("compare", runs[0]).code == 2
