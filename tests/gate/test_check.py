"""What a run must not pass with, alone: each way to be incomplete or over budget is one violation."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from report_example import example
from runs import JETSON, PI, shipped, sound, violations, with_shipped, with_target, with_variant

from edgekit.gate.check import check
from edgekit.gate.findings import RULES
from edgekit.report.schema import BudgetResult, Failure, Identity, Report

FAILURE = Failure(step="prune", targets=[PI], error="StageError", message="out of memory\nlog", exit_code=5)


def nan_accuracy() -> Report:
    accuracy = shipped(sound()).accuracy
    assert accuracy is not None
    return with_shipped(sound(), accuracy=accuracy.model_copy(update={"value": math.nan}))


def budget(reached: float | None, *, passed: bool) -> BudgetResult:
    return BudgetResult(name="latency_ms", limit=5, reached=reached, unit="ms", passed=passed)


FAULTS: dict[str, tuple[Callable[[], Report], tuple[str, str]]] = {
    "a stage failed": (lambda: sound(failures=[FAILURE]), ("build-failed", PI)),
    "the build ended in an error": (lambda: sound(exit_code=5), ("build-failed", "")),
    "a target was skipped": (
        lambda: sound(identity=Identity(targets=[PI, JETSON, "browser"])),
        ("target-skipped", "browser"),
    ),
    "no target at all": (lambda: sound(targets=[], identity=Identity()), ("target-skipped", "every target")),
    "nothing ships": (lambda: with_target(sound(), shipped=""), ("nothing-ships", PI)),
    "what ships is not there": (lambda: with_target(sound(), shipped="int4"), ("nothing-ships", PI)),
    "the target failed": (lambda: with_target(sound(), outcome="failed"), ("nothing-ships", PI)),
    "the target is unscored": (lambda: with_target(sound(), outcome="unscored"), ("nothing-ships", PI)),
    "NaN": (nan_accuracy, ("not-a-number", "")),
    "infinite": (lambda: sound(duration_s=math.inf), ("not-a-number", "")),
    "a variant nobody scored": (lambda: with_variant(sound(), "int8", accuracy=None), ("unscored", PI)),
    "a variant marked unscored": (lambda: with_variant(sound(), "int8", status="unscored"), ("unscored", PI)),
    "what ships was not timed": (lambda: with_shipped(sound(), latency=None), ("untimed", PI)),
    "a budget is missed": (
        lambda: with_target(sound(), budgets=[budget(6.0, passed=False)]),
        ("budget-missed", PI),
    ),
    "a budget is not measured": (
        lambda: with_target(sound(), budgets=[budget(None, passed=True)]),
        ("budget-missed", PI),
    ),
    "float ships, missed": (lambda: with_target(sound(), outcome="missed"), ("budget-missed", PI)),
}


def test_a_sound_run_passes() -> None:
    result = check(sound())
    assert result.passed
    assert result.exit_code == 0
    assert [(found.target, found.metric) for found in result.findings if found.found == "passed"] == [
        (PI, "accuracy_drop"), (PI, "latency_ms"), (PI, "model_mb"), (JETSON, "accuracy_drop"),
    ]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_a_violation_and_exits_7(fault: str) -> None:
    make, expected = FAULTS[fault]
    result = check(make())
    assert result.exit_code == 7
    assert not result.passed
    assert expected in [(found.rule, found.target) for found in result.violations]


def test_every_violation_is_one_line_of_a_known_rule() -> None:
    for make, _ in [*FAULTS.values(), (example, None)]:
        for found in check(make()).findings:
            assert found.rule in RULES
            assert found.message
            assert "\n" not in found.message


def test_the_example_with_failures_names_each() -> None:
    assert violations(example()) == [
        ("build-failed", "pixel-8", ""),
        ("unscored", "pixel-8", ""),
        ("budget-missed", "browser", ""),
    ]
