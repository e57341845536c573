"""What a search for int8 aims at, by the recipe's task and budget."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import fashion

from edgekit import recipe, target
from edgekit.plan import plan


@pytest.mark.parametrize(
    ("kind", "points", "loss"),
    [("generic", 1.0, 0.008), ("generic", 5.0, 0.04), ("classification", 1.0, 0.015), ("classification", 5.0, 0.02)],
)
def test_agreement_may_go_as_far_as_its_own_budget(kind: str, points: float, loss: float, tmp_path: Path) -> None:
    """Of other figures agreement is but a sign, so a search does not stop at more than 2 % of it."""
    changed = {"task.kind": kind, "budget.accuracy_drop": points}
    wanted = recipe.load(fashion(tmp_path / "r"), changed)
    planned = plan(wanted, [target.load("raspberry-pi-4")], "tflite", {})
    assert planned.steps["plan-tflite-int8-original"].arguments["target_loss"] == pytest.approx(loss)
