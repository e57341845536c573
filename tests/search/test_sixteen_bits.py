"""16-bit activations beside 8-bit ones in one file: LiteRT runs them; whether that pays is timed."""

from __future__ import annotations

from pathlib import Path

import faults
import numpy as np
import pytest

from edgekit.errors import UnsupportedError
from edgekit.quantize.calibrate import ranges
from edgekit.quantize.decide import decide
from edgekit.quantize.graph import read_graph
from edgekit.quantize.plan import Plan
from edgekit.runtimes import open_model
from edgekit.search.journal import Journal
from edgekit.search.problem import SENSITIVE, Base, Problem
from edgekit.search.sixteen_bits import widen, with_int16
from edgekit.search.trial import EMITTERS, Trial


def outputs(content: bytes, path: Path, sample: dict[str, np.ndarray]) -> np.ndarray:
    path.write_bytes(content)
    session = open_model(path, "tflite")
    return np.concatenate([array.ravel() for array in session.run([sample[spec["name"]] for spec in session.inputs])])


@pytest.fixture
def healthy(tmp_path: Path) -> tuple[faults.Fault, Base]:
    fault = faults.healthy("tflite", tmp_path)
    found = ranges(fault.float_file, "tflite", fault.calibration)
    return fault, Base("plain", fault.float_file, read_graph(fault.float_file, "tflite"), found)


def test_ops_of_both_widths_run_in_one_file(healthy: tuple[faults.Fault, Base], tmp_path: Path) -> None:
    fault, base = healthy
    content, sample = base.model.read_bytes(), fault.evaluation[0]
    plan = decide(base.model, "tflite", "int8", ranges=base.ranges)
    weighted = frozenset(op.name for op in base.graph.ops if op.weighted)
    exact = outputs(content, tmp_path / "f.tflite", sample)
    errors = []
    for wide in (frozenset(), weighted - {"stem"}, weighted):
        emitted = EMITTERS["tflite"](content, with_int16(base, plan, wide))
        errors.append(float(((outputs(emitted, tmp_path / "q.tflite", sample) - exact) ** 2).mean()))
    assert errors[2] < errors[1] < errors[0]


def journal_of(base: Base, plan: Plan, times_ms: dict[str, float]) -> Journal:
    """A search that has left the stem float; files with and without 16 bits take the times given."""

    def run(base: Base, plan: Plan | None, limit: int | None) -> Trial:
        wide = plan is not None and bool(plan.ops("int16x8"))
        return Trial(({"y": np.zeros(1)},), 1, fastest_ms=times_ms["int16" if wide else "float"])

    problem = Problem(lambda *_: plan, run, lambda trial: 0.0, [])
    journal = Journal(problem, 0.01, 60.0, lambda done, text: None)
    journal.attempt("start", base, plan)
    return journal


@pytest.mark.parametrize(("int16_ms", "kept"), [(3.0, False), (1.0, False), (0.5, True)])
def test_they_are_kept_only_where_clearly_faster(
    healthy: tuple[faults.Fault, Base], int16_ms: float, kept: bool
) -> None:
    _, base = healthy
    first = base.graph.ops[0].name
    plan = decide(base.model, "tflite", "int8", ranges=base.ranges, exclude={first: SENSITIVE})
    journal = journal_of(base, plan, {"float": 1.0, "int16": int16_ms})
    widen(journal)
    assert journal.log[-1].what == "16 bits instead of float for 1 op"
    assert (journal.kept.plan.ops("int16x8") == (first,)) is kept
    if int16_ms > 1:
        assert journal.notes == ["16 bits instead of float for 1 op: runs, 3.0 times slower"]


def test_onnx_runtime_has_no_such_kernels(tmp_path: Path) -> None:
    fault = faults.healthy("onnx", tmp_path)
    found = ranges(fault.float_file, "onnx", fault.calibration)
    base = Base("plain", fault.float_file, read_graph(fault.float_file, "onnx"), found)
    plan = decide(base.model, "onnx", "int8", ranges=found, exclude={base.graph.ops[0].name: SENSITIVE})
    journal = journal_of(base, plan, {"float": 1.0, "int16": 1.0})
    widen(journal)
    assert len(journal.log) == 1
    assert "no 16-bit kernels" in journal.notes[0]
    with pytest.raises(UnsupportedError, match="no kernel for it"):
        EMITTERS["onnx"](base.model.read_bytes(), with_int16(base, plan, frozenset(plan.ops("int8"))))
