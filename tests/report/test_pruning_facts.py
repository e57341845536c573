"""What is said of a pruning: only what happened."""

from __future__ import annotations

from typing import Any

from report_example import example

from edgekit.report.measured import Accuracy
from edgekit.report.pruned import CurvePoint, Gap, PruneSummary, Tried
from edgekit.report.pruning_section import pruning_facts, pruning_sentence


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


def scored(name: str, value: float, drop: tuple[float, float, float]) -> CurvePoint:
    points, low, high = drop
    accuracy = Accuracy(
        metric="mAP@[.5:.95]", value=value, samples=500, drop_points=points, drop_low_points=low, drop_high_points=high,
        runtime="LiteRT", runtime_version="2.3.0",
    )  # fmt: skip
    return CurvePoint(name=name, accuracy=accuracy, latency=None)


def sentence(low: float, high: float) -> str:
    """What is said where the control loses ``low`` to ``high`` points: below 0 it gains."""
    cut, control = "keep-0.5000-seed-0", scored("control-seed-0", 0.74, ((low + high) / 2, low, high))
    gap = Gap(control=control.name, points=2.0, low_points=1.5, high_points=2.5)
    pruned = scored(cut, 0.72, (1.0, 0.5, 1.5)).model_copy(update={"against_control": gap})
    curve = [scored("unpruned", 0.73, (0.0, 0.0, 0.0)), pruned, control]
    prune = example().prune
    assert isinstance(prune, PruneSummary)
    text = pruning_sentence(prune.model_copy(update={"curve": curve, "chosen": cut}))
    return text.replace("\u00a0", " ").replace("\u2212", "-")


def spread(controls: int) -> str:
    """Say what is said of two seeds, with so many controls."""
    cuts, names = ["keep-0.5000-seed-0", "keep-0.5000-seed-1"], ["control-seed-0", "control-seed-1"][:controls]
    curve = [scored("unpruned", 0.73, (0.0, 0.0, 0.0)), *(scored(name, 0.74, (-1.0, -1.2, -0.8)) for name in names)]
    for number, cut in enumerate(cuts):
        gap = Gap(control=names[min(number, controls - 1)], points=1.0 + number, low_points=0.5, high_points=2.5)
        curve.append(scored(cut, 0.72, (1.0, 0.5, 1.5)).model_copy(update={"against_control": gap}))
    prune = example().prune
    assert isinstance(prune, PruneSummary)
    text = pruning_sentence(prune.model_copy(update={"curve": curve, "chosen": cuts[0]}))
    return text.replace("\u00a0", " ").replace("\u2212", "-")


def test_a_spread_says_how_many_controls_it_is_held_against() -> None:
    assert "-1.5 points on average against controls of the same seeds." in spread(2)
    assert "-1.5 points on average against one control." in spread(1)


def test_a_model_that_training_alone_makes_better_is_said_to_learn_still() -> None:
    assert "training alone brings it +1.0 points [+0.8, +1.2]." in sentence(-1.2, -0.8)


def test_a_gain_that_may_be_chance_is_not_called_one() -> None:
    assert "still learns" not in sentence(-1.2, 0.1)
