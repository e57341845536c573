"""What is said of a pruning: only what happened."""

from __future__ import annotations

from typing import Any

from report_example import example

from edgekit.report.pruned import PruneSummary, Tried
from edgekit.report.pruning_section import pruning_facts


def facts(**changes: Any) -> dict[str, str]:
    prune = example().prune
    assert isinstance(prune, PruneSummary)
    return {title: text.replace("\u00a0", " ") for title, text in pruning_facts(prune.model_copy(update=changes))}


def tried(name: str) -> Tried:
    return Tried(
        name=name, keep=0.5, seed=0, macs=1, parameters=1, epochs=80, best_epoch=80, seconds=60.0, drop_points=None
    )  # fmt: skip


def test_a_cut_was_proven_exact() -> None:
    assert facts()["Exactness"].startswith("3.1e-07 relative")


def test_where_nothing_was_cut_nothing_was_proven() -> None:
    assert "Exactness" not in facts(exactness_error=None)


def test_minutes_are_those_of_one_network() -> None:
    made = [tried("keep-0.5000-seed-0"), tried("control-seed-0")]
    told = facts(tried=made, minutes=12.0, control_minutes=16.0)
    assert told["Recovery"].endswith(", 12.0 min")
    assert told["Control"].endswith("as long: 16.0 min")


def test_minutes_of_several_networks_are_said_to_be_that() -> None:
    made = [tried(f"{kind}-seed-{seed}") for kind in ("keep-0.5000", "control") for seed in range(3)]
    told = facts(tried=made, minutes=35.7, control_minutes=49.0)
    assert told["Recovery"].endswith(", 35.7 min for 3 networks")
    assert told["Control"].endswith("as long: 49.0 min for 3 networks")
