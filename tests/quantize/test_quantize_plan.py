"""The plan is a file people read and edit: it survives the trip, and every mistake in it is named."""

from __future__ import annotations

import json
import math

import pytest

from edgekit.errors import RecipeError, StageError
from edgekit.quantize.plan import OpDecision, Plan

PLAN = Plan(
    format="onnx",
    precision="int8",
    scheme="cpu",
    decisions=(
        OpDecision("conv/out", "Conv", "int8", ""),
        OpDecision('odd "name" é', "Mul", "float32", "output decoding"),
    ),
    ranges={"conv/out": (-1.25, 3.1415927410125732), "a": (0.0, 1e-7)},
    samples=12,
    notes=("attention network",),
)


def test_a_plan_survives_json() -> None:
    text = PLAN.to_json()
    assert Plan.from_json(text) == PLAN
    assert Plan.from_json(text).to_json() == text


def test_each_decision_and_range_has_its_own_line() -> None:
    lines = PLAN.to_json().splitlines()
    assert sum('"precision": "int8"' in line and "conv/out" in line for line in lines) == 1
    assert sum(line.strip().startswith('"a": [0.0, 1e-07]') for line in lines) == 1


def test_range_order_does_not_change_the_text() -> None:
    turned = Plan(**{**vars(PLAN), "ranges": dict(reversed(PLAN.ranges.items()))})
    assert turned.to_json() == PLAN.to_json()


def test_counts_by_precision() -> None:
    assert PLAN.counts() == {"int8": 1, "float32": 1}
    assert PLAN.ops("int8") == ("conv/out",)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"schema": 2}, "schema"),
        ({"colour": 1}, "colour"),
        ({"decisions": [{"op": "a"}]}, "malformed"),
        ({"decisions": [{"op": "a", "kind": "Conv", "precision": "int7", "reason": ""}]}, "int7"),
        ({"ranges": {"a": [1.0]}}, "malformed"),
    ],
)
def test_a_damaged_plan_is_refused(change: dict[str, object], told: str) -> None:
    data = {**json.loads(PLAN.to_json()), **change}
    with pytest.raises(RecipeError, match=told):
        Plan.from_json(json.dumps(data))


def test_text_that_is_not_json_is_refused() -> None:
    with pytest.raises(RecipeError, match="not JSON"):
        Plan.from_json("{")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_range_that_is_not_finite_names_its_tensor(bad: float) -> None:
    plan = Plan("onnx", "int8", "cpu", (), {"good": (0.0, 1.0), "exploded": (0.0, bad)})
    with pytest.raises(StageError, match="exploded"):
        Plan.from_json(plan.to_json())
