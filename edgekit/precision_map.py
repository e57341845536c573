"""The precision of every op in the order they run, for the report: the plan beside what each op costs."""

from __future__ import annotations

from pathlib import Path

from edgekit.inspection import onnx_graph, tflite_graph
from edgekit.pipeline import Outcome
from edgekit.quantize.plan import Plan
from edgekit.report.planned import PlannedOp
from edgekit.steps import BuildPlan, Ref, Row

_READERS = {"tflite": tflite_graph.read, "onnx": onnx_graph.read}


def planned_ops(row: Row, plan: BuildPlan, outcome: Outcome) -> list[PlannedOp]:
    """Return every op of a row's file; none where its ops were not planned one by one."""
    planned = outcome.entries.get(row.emit.replace("emit-", "plan-", 1))
    if planned is None:
        return []
    source: Ref = plan.steps[row.emit].arguments["model"]
    return read(planned.path("plan.json"), outcome.entries[source.step].path(source.name), row.format)


def read(plan: Path, model: Path, format: str) -> list[PlannedOp]:
    """Return what ``plan`` decided for every op of the float ``model``, with its multiply-accumulates.

    A plan and the reader of a file list the ops of the main graph in the same order; where the two do not agree on
    their kinds, costs stay unknown.
    """
    decisions = Plan.from_json(plan.read_text(encoding="utf-8")).decisions
    ops = _READERS[format](model).ops
    same = [op.kind for op in ops] == [decision.kind for decision in decisions]
    costs = [op.macs for op in ops] if same else [None] * len(decisions)
    return [
        PlannedOp(name=decision.op, kind=decision.kind, precision=decision.precision, reason=decision.reason, macs=macs)
        for decision, macs in zip(decisions, costs, strict=True)
    ]
