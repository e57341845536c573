"""A run against its baseline: tolerances to both sides, intervals, and conditions that must be equal."""

from __future__ import annotations

import math
from typing import Any

import pytest
from runs import (
    JETSON,
    PI,
    only_message,
    shipped,
    sound,
    violations,
    with_latency,
    with_shipped,
    with_variant,
)

from edgekit.errors import RecipeError
from edgekit.gate.check import check
from edgekit.gate.reached import PARTS, reached
from edgekit.report.schema import CheckTable, Identity, Report


def scaled(name: str, factor: float) -> Report:
    """Return the sound run with one figure of what ships multiplied."""
    row = shipped(sound())
    assert row.accuracy is not None
    assert row.latency is not None
    assert row.speedup is not None
    changes: dict[str, dict[str, Any]] = {
        "accuracy": {"accuracy": row.accuracy.model_copy(update={"value": row.accuracy.value * factor})},
        "size": {"size_bytes": round(row.size_bytes * factor)},
        "speedup": {"speedup": row.speedup * factor},
        "latency": {"latency": row.latency.model_copy(update={"p50_ms": row.latency.p50_ms * factor})},
        "memory": {
            "latency": row.latency.model_copy(
                update={"peak_memory_bytes": round(row.latency.peak_memory_bytes * factor)}
            )
        },
    }
    return with_shipped(sound(), **changes[name])


def with_check(report: Report, **table: Any) -> Report:
    return report.model_copy(update={"check": CheckTable(**table)})


def test_a_run_is_like_itself() -> None:
    result = check(sound(), sound())
    assert result.passed
    compared = [(found.target, found.metric) for found in result.findings if found.before is not None]
    assert compared == [
        (PI, "accuracy"), (PI, "size"), (PI, "speedup"), (PI, "memory"), (JETSON, "accuracy"), (JETSON, "size"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "factor", "better"),
    [
        ("accuracy", 0.98, False), ("accuracy", 1.02, True),
        ("size", 1.05, False), ("size", 0.95, True),
        ("speedup", 0.7, False), ("speedup", 1.5, True),
        ("memory", 1.5, False), ("memory", 0.5, True),
    ],
)  # fmt: skip
def test_a_change_to_either_side_is_a_violation(metric: str, factor: float, better: bool) -> None:
    result = check(scaled(metric, factor), sound())
    assert [(found.rule, found.target, found.metric) for found in result.violations] == [
        (f"{metric}-changed", PI, metric)
    ]
    message = only_message(result)
    assert ("better" if better else "worse") in message
    assert ("take this run as the baseline" in message) == better
    [found] = result.violations
    assert found.change is not None
    assert (found.change > 0) == better


@pytest.mark.parametrize(("metric", "factor"), [("accuracy", 0.995), ("size", 1.01), ("speedup", 0.9)])
def test_a_change_within_the_tolerance_passes(metric: str, factor: float) -> None:
    assert check(scaled(metric, factor), sound()).passed


def test_tolerances_of_the_recipe_hold_for_each_side_and_target() -> None:
    worse, better = scaled("size", 1.08), scaled("size", 0.92)
    assert check(with_check(worse, size_percent=10), sound()).passed
    assert check(with_check(worse, size_percent=[10, 1]), sound()).passed
    assert not check(with_check(better, size_percent=[10, 1]), sound()).passed
    assert check(with_check(worse, size_percent=False), sound()).passed
    assert check(with_check(worse, targets={PI: {"size_percent": 10}}), sound()).passed
    assert not check(with_check(worse, targets={JETSON: {"size_percent": 10}}), sound()).passed


def test_milliseconds_are_compared_where_the_recipe_says_so() -> None:
    slower = scaled("latency", 2)
    assert check(slower, sound()).passed
    assert violations(with_check(slower, latency_percent=20), sound()) == [("latency-changed", PI, "latency")]


def test_an_exact_tolerance_holds() -> None:
    """0.609 - 0.604 is 0.5000000000000004 points in binary."""
    accuracy = shipped(sound()).accuracy
    assert accuracy is not None
    lower = with_shipped(sound(), accuracy=accuracy.model_copy(update={"value": 0.604}))
    assert check(lower, sound()).passed


def test_missing_in_the_run_fails_and_missing_in_the_baseline_is_noted() -> None:
    row = shipped(sound())
    assert row.latency is not None
    untimed = with_latency(sound(), peak_memory_bytes=0)
    assert violations(untimed, sound()) == [("figure-missing", PI, "memory")]
    assert check(sound(), untimed).passed
    fewer = sound(targets=sound().targets[:1], identity=sound().identity.model_copy(update={"targets": [PI]}))
    assert violations(fewer, sound()) == [("figure-missing", JETSON, "")]
    assert check(sound(), fewer).passed


def test_accuracy_interval_joins_both_paired_bootstraps() -> None:
    [found] = check(scaled("accuracy", 0.98), sound()).violations
    spread = math.hypot(0.575, 0.575)  # each drop is known to -0.55 .. +0.6
    assert found.change is not None
    assert found.change_low == pytest.approx(found.change - spread)
    assert found.change_high == pytest.approx(found.change + spread)
    assert "could be noise" not in found.message


def test_no_accuracy_interval_across_two_source_models() -> None:
    other = sound(source=sound().source.model_copy(update={"sha256": "00" * 32}))
    result = check(sound(), other)
    [found] = [item for item in result.findings if item.metric == "accuracy" and item.target == PI]
    assert found.change_low is None


def test_a_speedup_that_is_mostly_noise_says_so() -> None:
    row = shipped(sound())
    assert row.latency is not None
    assert len(row.latency.samples_ns) == 120
    noisy = [
        round(sample * (3 if number * PARTS // 120 % 2 else 1)) for number, sample in enumerate(row.latency.samples_ns)
    ]
    assert row.speedup is not None
    run = with_shipped(sound(), speedup=row.speedup * 0.8, latency=row.latency.model_copy(update={"samples_ns": noisy}))
    assert "could be noise" in only_message(check(run, sound()))


def test_the_interval_of_a_timing_comes_from_nine_parts() -> None:
    target = sound().targets[0]
    found = reached(target, "latency_percent")
    assert found is not None
    assert found.spread is not None
    assert 0 < found.spread < 0.1
    few = with_latency(sound(), samples_ns=[1_000_000] * (PARTS - 1)).targets[0]
    found = reached(few, "latency_percent")
    assert found is not None
    assert found.spread is None  # too few calls to say


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda: sound(identity=Identity(targets=[PI, JETSON], test_sha256="bb" * 32)), "test data"),
        (lambda: sound(identity=Identity(targets=[PI, JETSON])), "no hash"),
        (lambda: with_latency(sound(), machine="Other CPU"), "device: Other CPU (host)"),
        (lambda: with_latency(sound(), place="device"), "(device) in the baseline"),
        (lambda: with_latency(sound(), runtime_version="9.9"), "runtime: LiteRT 9.9"),
        (lambda: with_latency(sound(), threads=4), "threads: 4"),
    ],
)  # fmt: skip
def test_other_conditions_are_refused_and_named(change: Any, named: str) -> None:
    with pytest.raises(RecipeError) as refused:
        check(sound(), change())
    assert refused.value.exit_code == 2
    assert named in refused.value.message
    assert "--allow-different" in refused.value.hint
    result = check(sound(), change(), allow_different=True)
    assert result.passed
    assert any(found.rule == "conditions-differ" and found.found == "noted" for found in result.findings)


def test_the_runtime_that_scored_must_be_the_same() -> None:
    run = sound()
    for row in run.targets[0].variants:
        assert row.accuracy is not None
        accuracy = row.accuracy.model_copy(update={"runtime_version": "9.9"})
        run = with_variant(run, row.name, accuracy=accuracy)
    with pytest.raises(RecipeError, match=r"runtime that scores: LiteRT 2\.3\.0 in the baseline, LiteRT 9\.9"):
        check(run, sound())


def test_a_difference_only_counts_for_what_is_compared() -> None:
    other = with_latency(sound(), machine="Other CPU")
    without = with_check(sound(), speedup_percent=False, memory_percent=False)
    assert check(without, other).passed
