"""Static against dynamic int8, with real plans of an attention network and of a convolutional one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_graphs
import pytest
from onnx import ModelProto

from edgekit.quantize.calibrate import ranges
from edgekit.quantize.decide import decide
from edgekit.quantize.graph import read_graph
from edgekit.quantize.plan import Plan
from edgekit.search.activations import restyle
from edgekit.search.journal import Journal
from edgekit.search.problem import Base, Problem
from edgekit.search.trial import EMITTERS, Trial, Trials

TARGET = 0.01
MS = {"float": 2.0, "int8": 1.0, "int8-dynamic": 1.0}
LOSS = {"int8": 0.001, "int8-dynamic": 0.001}


def started(proto: ModelProto, folder: Path, ms: dict[str, float], loss: dict[str, float]) -> tuple[Journal, Base]:
    """Begin a search with the plan that the rules make; files take the time and lose what their precision says."""
    path = onnx_graphs.save(proto, folder)
    found = ranges(path, "onnx", onnx_graphs.samples(proto))
    base = Base("plain", path, read_graph(path, "onnx"), found)

    def kind(plan: Plan | None) -> str:
        return "float" if plan is None else "int8-dynamic" if plan.ops("int8-dynamic") else "int8"

    def run(base: Base, plan: Plan | None, limit: int | None) -> Trial:
        return Trial(({"y": np.array([loss.get(kind(plan), 0.0)])},), 1, fastest_ms=ms[kind(plan)])

    problem = Problem(
        lambda base, exclude, hazards: decide(
            base.model, "onnx", "int8", ranges=base.ranges, exclude=exclude, activations=base.activations
        ),
        run, lambda trial: float(trial.outputs[0]["y"][0]), [],
    )  # fmt: skip
    journal = Journal(problem, TARGET, 60.0, lambda done, text: None)
    journal.attempt("start", base, problem.decide(base, {}, False))
    return journal, base


@pytest.mark.parametrize(
    ("ms", "loss", "style"),
    [
        ({"int8": 0.5}, {}, "static"),  # clearly faster, and within the target
        ({"int8": 0.98}, {}, ""),  # a close call goes to what is there
        ({"int8": 0.5}, {"int8": 0.5}, ""),  # accuracy first
        ({"int8": 1.5}, {"int8": 0.001, "int8-dynamic": 0.5}, "static"),  # slower, but within the target at last
        ({"int8": 2.5}, {"int8": 0.001, "int8-dynamic": 0.5}, ""),  # slower than float is never better
    ],
)
def test_attention_takes_what_measures_better(
    ms: dict[str, float], loss: dict[str, float], style: str, tmp_path: Path
) -> None:
    journal, base = started(onnx_graphs.attention(), tmp_path, MS | ms, LOSS | loss)
    assert journal.kept.plan.ops("int8-dynamic"), "dynamic is the rule"
    assert restyle(journal, base) is bool(style)
    assert journal.log[-1].what == "static int8 activations"
    assert journal.kept.base.activations == style
    if style:
        assert not journal.kept.plan.ops("int8-dynamic")
        assert "measured better" in journal.notes[0]


def test_both_ways_run_for_real(tmp_path: Path) -> None:
    proto = onnx_graphs.attention()
    journal, base = started(proto, tmp_path, MS, LOSS)
    plans = [journal.kept.plan]
    plans.append(decide(base.model, "onnx", "int8", ranges=base.ranges, activations="static"))
    assert plans[0].ops("int8-dynamic") == plans[1].ops("int8")
    with Trials("onnx", onnx_graphs.samples(proto), tmp_path) as trials:
        exact, *tried = (trials.run(base.model, plan) for plan in (None, *plans))
    for trial in tried:
        assert not trial.refusal
        for right, got in zip(exact.outputs, trial.outputs, strict=True):
            for name in right:
                assert np.abs(got[name] - right[name]).max() < 0.1 * np.abs(right[name]).max()
    assert set(EMITTERS) == {"onnx", "tflite"}


def test_a_network_without_an_op_that_can_be_dynamic_keeps_its_plan(tmp_path: Path) -> None:
    journal, base = started(onnx_graphs.gated(), tmp_path, MS, LOSS)
    before = journal.kept
    assert not restyle(journal, base)
    assert journal.kept is before
