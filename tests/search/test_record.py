"""A search that was killed does not run again what it has tried."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_search import images, network, run

from edgekit.search import record as recording
from edgekit.search.record import Record
from edgekit.search.trial import Trial, Trials

__all__ = ["images"]


def trial(number: float) -> Trial:
    made = {"a/b": np.full((1, 3), number, np.float32), "file": np.array([number])}
    return Trial((made, made), 100, fastest_ms=number)


def test_trials_come_back_in_their_order_until_another_is_asked_for(tmp_path: Path) -> None:
    first = Record(tmp_path)
    for number, key in enumerate("abc"):
        assert first.known(key) is None
        first.add(key, trial(number))
    again = Record(tmp_path)
    found = again.known("a")
    assert found is not None
    assert (found.size_bytes, found.refusal, found.fastest_ms, len(found.outputs)) == (100, "", 0.0, 2)
    np.testing.assert_array_equal(found.outputs[1]["a/b"], trial(0).outputs[1]["a/b"])
    assert again.known("x") is None
    again.add("x", trial(9))
    assert again.known("c") is None
    assert not list(tmp_path.glob("00002/*"))


def test_refusals_are_kept_and_damage_is_run_again(tmp_path: Path) -> None:
    first = Record(tmp_path)
    first.add("a", Trial((), 0, "no such op"))
    first.add("b", trial(1))
    (tmp_path / "00001/outputs.npz").write_bytes(b"half of")
    again = Record(tmp_path)
    refused = again.known("a")
    assert refused is not None
    assert (refused.refusal, refused.outputs) == ("no such op", ())
    assert again.known("b") is None


def test_what_is_too_large_for_the_disk_is_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "LARGEST_BYTES", 50)
    first = Record(tmp_path)
    first.add("a", trial(1))
    first.add("b", trial(2))
    again = Record(tmp_path)
    assert again.known("a") is not None
    assert again.known("b") is None


def test_a_killed_search_ends_in_the_same_plan_without_repeating_trials(
    tmp_path: Path, images: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, calls = network(tmp_path / "m.onnx", 2, branch=True), []
    original = Trials.run

    def counted(self: Trials, *arguments: Any) -> Trial:
        calls.append(arguments)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(Trials, "run", counted)
    stop = 0
    whole = run(tmp_path / "whole", model, images, 0.02, work=tmp_path / "work-whole")
    needed = len(calls)
    calls.clear()
    stop = needed // 2
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", model, images, 0.02, work=tmp_path / "work")
    calls.clear()
    stop = 0
    found = run(tmp_path / "again", model, images, 0.02, work=tmp_path / "work")
    assert len(calls) <= needed - needed // 2 + 1
    plans = [(tmp_path / name / "out/plan.json").read_text() for name in ("whole", "again")]
    assert plans[0] == plans[1]
    assert [line["what"] for line in found["log"]] == [line["what"] for line in whole["log"]]
