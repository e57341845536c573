"""The verdict, case by case: which variant ships, with which statuses, causes, sentence and exit code."""

from __future__ import annotations

import hashlib
import math
from typing import Any, NamedTuple

import pytest

from edgekit.profile.verdict import Budget, exit_code, judge
from edgekit.report.schema import Accuracy, Latency, OpTime, TargetReport, Variant

MB = 1_000_000
POINT = Budget(accuracy_drop_points=1.0)


def scored(value: float, low: float | None = None, high: float | None = None, **extra: Any) -> Accuracy:
    fields: dict[str, Any] = {
        "metric": "top-1",
        "samples": 500,
        "runtime": "litert",
        "runtime_version": "2.3.0",
    }
    return Accuracy(value=value, drop_low_points=low, drop_high_points=high, **{**fields, **extra})


def timed_at(ms: float, ops: list[OpTime] | None = None, **extra: Any) -> Latency:
    fields: dict[str, Any] = {
        "place": "host",
        "machine": "Example CPU, 2 cores",
        "runtime": "litert",
        "runtime_version": "2.3.0",
        "threads": 1,
        "warmup_calls": 5,
        "samples_ns": [int(ms * 1e6)],
        "calls_per_sample": 1,
        "load_ms": 1.0,
        "first_call_ms": ms,
        "peak_memory_bytes": 20 * MB,
    }
    return Latency(min_ms=ms, p50_ms=ms, p90_ms=ms, p99_ms=ms, ops=ops or [], **{**fields, **extra})


def row(
    name: str,
    value: float | Accuracy | None,
    ms: float | Latency | None,
    size_mb: float,
    speedup: float | None = None,
    **extra: Any,
) -> Variant:
    """Build a variant; steps and precision follow from the name, the speed-up from a 10 ms baseline."""
    precision = name.removeprefix("pruned-")
    steps = (["prune"] if name.startswith("pruned") else []) + (["quantize"] if precision != "float32" else [])
    latency = timed_at(ms) if isinstance(ms, int | float) else ms
    fields: dict[str, Any] = {
        "name": name,
        "steps": steps,
        "format": "tflite",
        "precision": precision,
        "file": f"{name}.tflite",
        "sha256": hashlib.sha256(name.encode()).hexdigest(),
        "size_bytes": int(size_mb * MB),
        "accuracy": scored(value) if isinstance(value, int | float) else value,
        "latency": latency,
        "speedup": speedup if speedup is not None or latency is None else 10 / latency.min_ms,
        "status": "kept",
    }
    return Variant(**{**fields, **extra})


FLOAT = row("float32", 0.90, 10, 8)
PRUNED = row("pruned-float32", 0.896, 5, 4)
INT8 = row("int8", 0.898, 4, 2)
BOTH = row("pruned-int8", 0.894, 2, 1)


def verdict(*rows: Variant, budget: Budget = POINT, timed: bool = True) -> TargetReport:
    return judge("pi", "Example board", "raspberry-pi", rows, budget, timed=timed)


def untimed(*rows: Variant) -> list[Variant]:
    return [r.model_copy(update={"latency": None, "speedup": None, "latency_note": "no board"}) for r in rows]


class Case(NamedTuple):
    rows: list[Variant]
    outcome: str
    shipped: str
    budget: Budget = POINT
    timed: bool = True


CASES = {
    "everything works: the fastest": Case([FLOAT, PRUNED, INT8, BOTH], "passed", "pruned-int8"),
    "a baseline alone is fine": Case([FLOAT], "passed", "float32"),
    "no limit, no drop is too much": Case([FLOAT, row("int8", 0.1, 4, 2)], "passed", "int8", budget=Budget()),
    "drop exactly on the budget": Case([FLOAT, row("int8", 0.89, 4, 2)], "passed", "int8"),
    "drop just over": Case([FLOAT, row("int8", 0.8899, 4, 2)], "missed", "float32"),
    "over budget leaves the next best": Case([FLOAT, PRUNED, row("int8", 0.5, 4, 2)], "passed", "pruned-float32"),
    "NaN accuracy is no accuracy": Case([FLOAT, row("int8", math.nan, 4, 2)], "unscored", ""),
    "no accuracy never ships": Case([FLOAT, PRUNED, row("int8", None, 1, 1)], "passed", "pruned-float32"),
    "nothing scored": Case([FLOAT, row("int8", None, 4, 2), row("pruned-int8", None, 2, 1)], "unscored", ""),
    "no artifact": Case([FLOAT, row("int8", 0.9, 4, 0)], "unscored", ""),
    "scored on no samples": Case([FLOAT, row("int8", scored(0.9, samples=0), 4, 2)], "unscored", ""),
    "other samples": Case([FLOAT, row("int8", scored(0.9, samples=9), 4, 2)], "unscored", ""),
    "other metric": Case([FLOAT, row("int8", scored(0.9, metric="mAP"), 4, 2)], "unscored", ""),
    "baseline missing": Case([], "failed", ""),
    "baseline unscored": Case([row("float32", None, 10, 8), INT8], "failed", ""),
    "baseline NaN": Case([row("float32", math.nan, 10, 8), INT8], "failed", ""),
    "baseline scores zero": Case([row("float32", 0.0, 10, 8), row("int8", 0.0, 4, 2)], "failed", ""),
    "baseline untimed": Case([row("float32", 0.9, None, 8), INT8], "failed", ""),
    "baseline emulated": Case([row("float32", 0.9, timed_at(10, flags=["emulated"]), 8), INT8], "failed", ""),
    "int8 slower than float": Case([FLOAT, row("int8", 0.9, 12, 2)], "passed", "float32"),
    "int8 1 % slower is noise": Case([FLOAT, row("int8", 0.9, 10.1, 2)], "passed", "int8"),
    "int8 slower after pruning": Case([FLOAT, PRUNED, row("pruned-int8", 0.895, 6, 1)], "passed", "pruned-float32"),
    "tie: the smaller": Case([FLOAT, row("int8", 0.9, 4.0, 2), row("mixed", 0.9, 3.95, 3)], "passed", "int8"),
    "no tie: the faster": Case([FLOAT, row("int8", 0.9, 4.0, 2), row("mixed", 0.9, 3.8, 3)], "passed", "mixed"),
    "pruning bought nothing": Case([FLOAT, row("pruned-float32", 0.9, 9.9, 7.9)], "passed", "float32"),
    "smaller is enough": Case([FLOAT, row("pruned-float32", 0.9, 10, 7.5)], "passed", "pruned-float32"),
    "slower and worse, though smaller": Case([FLOAT, row("pruned-float32", 0.899, 11, 4)], "passed", "float32"),
    "variant untimed": Case([FLOAT, row("int8", 0.9, None, 2)], "unscored", ""),
    "speed-up not finite": Case([FLOAT, row("int8", 0.9, 4, 2, speedup=math.nan)], "unscored", ""),
    "emulated time is no time": Case(
        [FLOAT, PRUNED, row("int8", 0.9, timed_at(1, flags=["emulated"]), 2)], "passed", "pruned-float32"
    ),
    "untimed target: most compressed": Case(untimed(FLOAT, PRUNED, INT8, BOTH), "passed", "pruned-int8", timed=False),
    "untimed: precision before size": Case(
        untimed(FLOAT, row("float16", 0.9, None, 1.5), INT8), "passed", "int8", timed=False
    ),
    "untimed: pruned int8 not smaller": Case(
        untimed(FLOAT, INT8, row("pruned-int8", 0.9, None, 1.99)), "passed", "int8", timed=False
    ),
    "untimed with a latency limit": Case(
        untimed(FLOAT, INT8), "missed", "int8", budget=Budget(latency_ms=5), timed=False
    ),
    "untimed with a speed-up limit": Case(
        untimed(FLOAT, INT8), "missed", "int8", budget=Budget(speedup=2), timed=False
    ),
    "latency limit met": Case([FLOAT, INT8], "passed", "int8", budget=Budget(latency_ms=4)),
    "latency limit missed": Case([FLOAT, INT8], "missed", "int8", budget=Budget(latency_ms=3.9)),
    "size limit picks the slower": Case(
        [FLOAT, row("int8", 0.9, 4, 2), row("mixed", 0.9, 3, 3)],
        "passed",
        "int8",
        budget=Budget(model_mb=2.5),
    ),
    "memory limit missed": Case([FLOAT, INT8], "missed", "int8", budget=Budget(memory_mb=19.9)),
    "speed-up limit missed": Case([FLOAT, INT8], "missed", "int8", budget=Budget(speedup=2.6)),
    "speed-up limit met": Case([FLOAT, INT8], "passed", "int8", budget=Budget(speedup=2.5)),
    "dropped for worth and accuracy both: only the float file holds the budget": Case(
        [FLOAT, row("int8", 0.5, 12, 2)], "missed", "float32"
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_ships_and_outcome(case: Case) -> None:
    rows, outcome, shipped, budget, timed = case
    report = verdict(*rows, budget=budget, timed=timed)
    assert (report.outcome, report.shipped) == (outcome, shipped)
    assert [variant.name for variant in report.variants] == [variant.name for variant in rows]
    for variant in report.variants:
        assert bool(variant.cause) == (variant.status in ("dropped", "unscored")) or outcome == "failed"
        assert (variant.status == "shipped") == (variant.name == shipped != report.baseline)
        if variant.status in ("shipped", "kept"):
            assert variant.accuracy is not None
    assert report.sentence.startswith("pi: ")
    assert report.sentence.endswith(".")
    assert "nan" not in report.model_dump_json().lower().split('"')


def cause_of(report: TargetReport, name: str) -> str:
    return next(variant.cause for variant in report.variants if variant.name == name)


def test_sentence_names_everything_that_matters() -> None:
    both = row("pruned-int8", scored(0.897, low=-0.2, high=0.9), 10 / 6.1, 8 / 8.2, speedup=6.1)
    assert verdict(FLOAT, PRUNED, INT8, both).sentence == (
        "pi: ship pruned-int8 (pruned-int8 TFLite): 6.1x faster than float on this host, 8.2x smaller, "
        "top-1 -0.3 points [-0.9, +0.2]."
    ).replace("(pruned-int8", "(int8")


def test_interval_over_the_budget_is_not_proven() -> None:
    report = verdict(FLOAT, row("int8", scored(0.895, low=0.1, high=1.4), 4, 2))
    assert report.outcome == "passed"
    assert "(budget 1 points not proven: the interval reaches 1.4)" in report.sentence
    assert report.budgets[0].note == "not proven: the interval reaches 1.4"


def test_missed_sentence_names_the_best_attempt_honestly() -> None:
    worse = row("pruned-int8", 0.80, 2, 1)
    report = verdict(FLOAT, row("int8", scored(0.87, low=2.1, high=3.9), 4, 2), worse)
    assert "best attempt, int8 (int8 TFLite), is top-1 -3.0 points [-3.9, -2.1]" in report.sentence
    assert "2.5x faster than float on this host, 4.0x smaller" in report.sentence
    assert "ship float32 (float32 TFLite) unchanged" in report.sentence


def test_slow_int8_names_the_float_ops() -> None:
    ops = [
        OpTime(name="conv", kind="Convolution (NHWC, QC8) IGEMM", ms=4.0),
        OpTime(name="up", kind="Resize Bilinear (NHWC, F32)", ms=7.0),
        OpTime(name="q", kind="Convert (NC, F32, QS8)", ms=1.0),
    ]
    report = verdict(FLOAT, row("int8", 0.9, timed_at(12.5, ops), 2))
    assert cause_of(report, "int8") == (
        "int8 is slower than float: 0.80x the speed of float32; "
        "8.00 of 12.00 ms runs in float or conversion ops, most in Resize Bilinear (NHWC, F32)"
    )
    assert "int8 is slower than float" in report.sentence


def test_slow_int8_without_float_ops_blames_the_kernels() -> None:
    ops = [OpTime(name="conv", kind="Convolution (NHWC, QC8) IGEMM", ms=12.0)]
    cause = cause_of(verdict(FLOAT, row("int8", 0.9, timed_at(12.5, ops), 2)), "int8")
    assert "int8 kernels themselves are slow" in cause
    assert "no per-op times" in cause_of(verdict(FLOAT, row("int8", 0.9, 12.5, 2)), "int8")


def test_onnx_float_ops_are_known_by_their_kind() -> None:
    ops = [OpTime(name="a", kind="QLinearConv", ms=2.0), OpTime(name="b", kind="Conv", ms=9.0)]
    slow = row("int8", 0.9, timed_at(12, ops), 2, format="onnx")
    assert "9.00 of 11.00 ms" in cause_of(verdict(FLOAT, slow), "int8")


def test_untimed_sentence_says_so() -> None:
    sentence = verdict(*untimed(FLOAT, BOTH), timed=False).sentence
    assert "latency not measured" in sentence
    assert "faster" not in sentence


def test_device_time_is_called_device_time() -> None:
    float32 = row("float32", 0.9, timed_at(10, place="device"), 8)
    int8 = row("int8", 0.9, timed_at(4, place="device"), 2)
    report = verdict(float32, int8, budget=Budget(latency_ms=5))
    assert "on the device" in report.sentence
    assert report.budgets[0].note == ""


def test_host_time_is_never_called_the_boards() -> None:
    report = verdict(FLOAT, INT8, budget=Budget(latency_ms=5))
    assert report.budgets[0].note == "measured on this host, not on the board"


def test_missed_budgets_are_told_in_words_and_digits_that_differ() -> None:
    report = verdict(FLOAT, INT8, budget=Budget(latency_ms=3.999, speedup=3))
    assert report.sentence.endswith(
        "Budget missed: latency 3.999 ms (reached 4 ms on this host), speed-up 3x (reached 2.5x on this host)."
    )
    close = verdict(FLOAT, row("int8", 0.8899, 4, 2))
    assert "is top-1 -1.01 points" in close.sentence


def test_missing_latency_is_a_missed_budget_with_the_reason() -> None:
    report = verdict(*untimed(FLOAT, INT8), budget=Budget(latency_ms=5), timed=False)
    assert (report.budgets[0].reached, report.budgets[0].passed) == (None, False)
    assert report.budgets[0].note == "no board"
    assert "Budget missed: latency 5 ms (not measured)" in report.sentence


def test_steps_are_rows_before_and_after() -> None:
    steps = verdict(FLOAT, PRUNED, INT8, BOTH).steps
    assert [(s.step, s.before, s.after) for s in steps] == [
        ("prune", "float32", "pruned-float32"),
        ("quantize", "float32", "int8"),
        ("quantize", "pruned-float32", "pruned-int8"),
        ("prune", "int8", "pruned-int8"),
    ]
    assert all(step.kept for step in steps)
    assert steps[2].speedup == pytest.approx(2.5)
    assert steps[2].size_ratio == pytest.approx(0.25)
    assert steps[2].accuracy_points == pytest.approx(-0.2)


def test_a_missing_middle_row_joins_two_steps() -> None:
    steps = verdict(FLOAT, BOTH).steps
    assert [(s.step, s.before, s.after) for s in steps] == [("prune + quantize", "float32", "pruned-int8")]


def test_the_same_file_under_another_name_never_ships_however_it_was_timed() -> None:
    same = row("pruned-float32", 0.90, 8.0, 8, sha256=FLOAT.sha256)
    quantized = row("pruned-int8", 0.898, 3.0, 2, sha256=INT8.sha256)
    report = verdict(FLOAT, same, INT8, quantized)
    assert report.shipped == "int8"
    assert cause_of(report, same.name) == "the same file as float32, byte for byte"
    assert cause_of(report, quantized.name) == "the same file as int8, byte for byte"


def test_pruning_that_buys_nothing_over_int8_is_dropped_there() -> None:
    report = verdict(FLOAT, PRUNED, INT8, row("pruned-int8", 0.894, 3.98, 1.95))
    assert report.shipped == "int8"
    assert cause_of(report, "pruned-int8").startswith("bought nothing over int8")


def test_a_dropped_row_is_no_yardstick() -> None:
    broken = row("int8", 0.2, 1.9, 0.99)  # fast and small, but useless
    report = verdict(FLOAT, PRUNED, broken, BOTH)
    assert report.shipped == "pruned-int8"


def test_unscored_keeps_the_cause_it_came_with() -> None:
    failed = row("int8", None, None, 0, cause="conversion failed: op Erf")
    report = verdict(FLOAT, failed)
    assert cause_of(report, "int8") == "conversion failed: op Erf"
    assert "conversion failed: op Erf" in report.sentence


def test_nan_never_reaches_the_report() -> None:
    report = verdict(FLOAT, PRUNED, row("int8", math.nan, 4, 2))
    assert report.variants[2].accuracy is None
    assert report.variants[2].status == "unscored"
    odd = row("int8", scored(0.9, low=math.nan, high=math.inf, drop_points=math.nan), 4, 2, speedup_p50=math.nan)
    for report in (verdict(FLOAT, odd), verdict(row("float32", 0.0, 10, 8), odd)):
        assert "nan" not in str(report.model_dump()).lower()
        assert "inf," not in str(report.model_dump()).lower()


def test_a_drop_that_was_not_given_is_filled_in() -> None:
    report = verdict(FLOAT, INT8)
    drops = [variant.accuracy.drop_points for variant in report.variants if variant.accuracy]
    assert drops == [0.0, pytest.approx(0.2)]


def test_the_best_is_never_slower_and_less_accurate_than_float() -> None:
    for ms in (2, 9.7, 10, 10.3, 30):
        for value in (0.88, 0.895, 0.9, 0.91):
            report = verdict(FLOAT, row("pruned-float32", value, ms, 4))
            shipped = next(v for v in report.variants if v.name == report.shipped)
            assert shipped.accuracy is not None
            assert shipped.latency is not None
            assert not (shipped.latency.min_ms > 10.3 and shipped.accuracy.value < 0.9)


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        (["passed", "passed"], 0),
        (["passed", "missed"], 7),
        (["missed", "failed"], 5),
        (["unscored", "passed"], 5),
        ([], 5),
    ],
)
def test_exit_code(outcomes: list[str], code: int) -> None:
    passed = verdict(FLOAT, INT8)
    assert exit_code([passed.model_copy(update={"outcome": outcome}) for outcome in outcomes]) == code
