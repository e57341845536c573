"""Statistics on samples written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.errors import StageError
from edgekit.profile.measurement import (
    Conditions,
    Measurement,
    is_busy,
    is_throttled,
    is_unstable,
    load_of_others,
    percentile,
    speedup,
    variation,
)
from edgekit.report.schema import Latency

HERE = Conditions("host", "a CPU, 2 cores", "onnxruntime", "1.0", 1)
MS = 1_000_000


def test_percentiles_interpolate_linearly() -> None:
    assert percentile([4, 1, 3, 2], 50) == 2.5
    assert percentile([10, 20], 90) == pytest.approx(19)
    assert percentile([7], 99) == 7


@pytest.mark.parametrize("percent", [0, 10, 50, 90, 99, 100])
def test_percentiles_are_those_of_numpy(percent: int) -> None:
    samples = np.random.default_rng(0).integers(1, 10**9, 57)
    assert percentile(samples.tolist(), percent) == pytest.approx(np.percentile(samples, percent))


def test_variation_is_standard_deviation_over_mean() -> None:
    assert variation([2, 4, 4, 4, 5, 5, 7, 9]) == pytest.approx(2.138 / 5, abs=1e-3)
    assert variation([3]) == 0


def test_figures_are_in_milliseconds() -> None:
    measured = Measurement(HERE, (3 * MS, 1 * MS, 2 * MS))
    assert measured.min_ms == 1
    assert measured.percentile_ms(50) == 2


class TestFlags:
    def test_steady_samples_raise_none(self) -> None:
        assert Measurement(HERE, tuple(100 + n % 5 for n in range(60))).flags() == []

    def test_a_long_tail_is_unstable(self) -> None:
        assert is_unstable([100] * 8 + [140] * 2)
        assert not is_unstable([100] * 50)

    def test_one_far_outlier_is_unstable_by_variation(self) -> None:
        samples = [100] * 49 + [200]
        assert percentile(samples, 90) / percentile(samples, 50) == 1
        assert is_unstable(samples)

    def test_slower_at_the_end_is_throttled(self) -> None:
        assert is_throttled([100] * 15 + [112] * 5)
        assert not is_throttled([100] * 15 + [109] * 5)
        assert not is_throttled([112] * 5 + [100] * 15)

    def test_few_samples_do_not_tell_throttling(self) -> None:
        assert not is_throttled([100, 100, 200, 200])

    def test_what_others_took_is_busy_time_without_our_own(self) -> None:
        before = [{"clock_s": 10.0, "busy_s": 100.0, "own_s": 1.0}, {"own_s": 2.0}]
        after = [{"clock_s": 12.0, "busy_s": 103.0, "own_s": 1.5}, {"own_s": 3.5}]
        assert load_of_others(before, after) == 0.5  # (3 s busy - 0.5 s - 1.5 s) in 2 s
        assert load_of_others(before[:1], [{"clock_s": 12.0, "busy_s": None, "own_s": 0.0}]) is None

    def test_busy_is_load_per_core(self) -> None:
        assert is_busy(0.7, 2)
        assert not is_busy(0.5, 2)
        assert not is_busy(None, 2)


class TestComparison:
    def test_speedup_is_before_over_after(self) -> None:
        before, after = (
            Measurement(HERE, (4 * MS, 6 * MS, 8 * MS)),
            Measurement(HERE, (1 * MS, 2 * MS, 3 * MS)),
        )
        assert speedup(before, after) == (4.0, 3.0)

    @pytest.mark.parametrize(
        ("field", "other"),
        [
            ("place", Conditions("device", "a CPU, 2 cores", "onnxruntime", "1.0", 1)),
            ("machine", Conditions("host", "another CPU", "onnxruntime", "1.0", 1)),
            ("runtime", Conditions("host", "a CPU, 2 cores", "ai-edge-litert", "1.0", 1)),
            ("runtime_version", Conditions("host", "a CPU, 2 cores", "onnxruntime", "1.1", 1)),
            ("threads", Conditions("host", "a CPU, 2 cores", "onnxruntime", "1.0", 2)),
        ],
    )
    def test_different_conditions_are_refused_by_name(self, field: str, other: Conditions) -> None:
        one, two = Measurement(HERE, (1,)), Measurement(other, (1,))
        with pytest.raises(StageError, match=rf"conditions cannot be compared: {field} "):
            speedup(one, two)
        with pytest.raises(StageError, match=field):
            one.combine(two)

    def test_samples_of_the_same_conditions_combine(self) -> None:
        assert Measurement(HERE, (1, 2)).combine(Measurement(HERE, (3,))).samples_ns == (1, 2, 3)

    def test_samples_of_different_length_do_not(self) -> None:
        with pytest.raises(StageError, match="different lengths"):
            Measurement(HERE, (1,), 1).combine(Measurement(HERE, (1,), 10))

    @pytest.mark.parametrize("samples", [(), (1, 0), (-1,)])
    def test_a_measurement_without_times_cannot_be(self, samples: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="above zero"):
            Measurement(HERE, samples)


def test_a_measurement_is_read_back_from_a_report() -> None:
    latency = Latency(
        place="host", machine="a CPU, 2 cores", runtime="onnxruntime", runtime_version="1.0", threads=1,
        warmup_calls=1, min_ms=1, p50_ms=1, p90_ms=1, p99_ms=1, samples_ns=[5, 6], calls_per_sample=4,
        load_ms=1, first_call_ms=1, peak_memory_bytes=1,
    )  # fmt: skip
    assert Measurement.of(latency) == Measurement(HERE, (5, 6), 4)
