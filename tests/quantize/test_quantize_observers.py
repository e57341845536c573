"""Statistics are those of numpy over all samples at once, gathered in memory that stays flat."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from edgekit.errors import StageError
from edgekit.quantize.observers import BINS, TensorStatistics, unlike, warn_small


def tensors(count: int, seed: int = 0, growth: float = 1.0) -> list[Any]:
    """NHWC, with exact zeros; each sample is wider than the one before by ``growth``."""
    random = np.random.default_rng(seed)
    made = [(random.normal(0.5, growth**k, (1, 8, 9, 6))).astype(np.float32) for k in range(count)]
    for values in made:
        values[values < -0.5] = 0
    return made


def steady(count: int) -> list[Any]:
    random = np.random.default_rng(0)
    return [random.uniform(-1, 1, (1, 8, 9, 6)).astype(np.float32) for _ in range(count)]


def observed(values: list[Any], axis: int = -1) -> TensorStatistics:
    statistics = TensorStatistics("x", axis)
    for one in values:
        statistics.observe(one)
    return statistics


@pytest.mark.parametrize("growth", [1.0, 1.4, 0.5])
def test_statistics_are_numpys(growth: float) -> None:
    samples = tensors(20, growth=growth)
    found, together = observed(samples), np.concatenate(samples)
    assert (found.low, found.high) == (together.min(), together.max())
    assert found.zeros == (together == 0).sum()
    assert (found.samples, found.values, found.values_per_sample) == (20, together.size, 432)
    assert found.channel_low is not None
    assert found.channel_high is not None
    np.testing.assert_array_equal(found.channel_low, together.min(axis=(0, 1, 2)))
    np.testing.assert_array_equal(found.channel_high, together.max(axis=(0, 1, 2)))


def test_channels_are_where_the_layout_has_them() -> None:
    samples = [values.transpose(0, 3, 1, 2) for values in tensors(3)]
    found = observed(samples, axis=1)
    assert found.channel_high is not None
    np.testing.assert_array_equal(found.channel_high, np.concatenate(samples).max(axis=(0, 2, 3)))
    vector = observed([np.array([3.0, -2.0], np.float32)])
    assert vector.channel_high is not None
    assert vector.channel_high.tolist() == [3.0]  # no batch axis: no channels


def test_samples_of_different_shape_have_no_channels() -> None:
    found = observed([np.ones((1, 4, 3), np.float32), np.ones((1, 4, 5), np.float32)])
    assert found.channel_low is found.channel_high is None
    assert found.values == 32


@pytest.mark.parametrize("growth", [1.0, 1.7, 0.5])
def test_the_histogram_is_numpys_after_any_number_of_widenings(growth: float) -> None:
    samples = tensors(12, growth=growth)
    found, together = observed(samples), np.concatenate(samples)
    expected, _ = np.histogram(together[together != 0], found.histogram.edges)
    np.testing.assert_array_equal(found.histogram.counts, expected)
    used = np.flatnonzero(found.histogram.counts)
    assert used[-1] - used[0] > BINS / 2 - 2  # not wider than it has to be


def test_the_histogram_does_not_depend_on_the_order() -> None:
    samples = tensors(12, growth=1.5)
    forward, backward = observed(samples).histogram, observed(samples[::-1]).histogram
    np.testing.assert_array_equal(forward.counts, backward.counts)
    assert (forward.width, forward.origin) == (backward.width, backward.origin)


@pytest.mark.parametrize("value", [0.0, 1e-38, -3.0, 3e38])
def test_constants_have_a_histogram(value: float) -> None:
    found = observed([np.full((1, 5), value, np.float32)] * 3)
    assert found.histogram.counts.sum() + found.zeros == 15


def test_the_moving_average_forgets() -> None:
    found = observed([np.array([[-1.0, 1.0]], np.float32), np.array([[-2.0, 4.0]], np.float32)])
    assert (found.average_low, found.average_high) == pytest.approx((-1.1, 1.3))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_tensor_that_explodes_is_named(bad: float) -> None:
    values = tensors(1)[0]
    values[0, 3, 3, 2] = bad
    with pytest.raises(StageError, match="tensor 'x' reached"):
        observed([values])


def test_memory_does_not_grow_with_the_samples() -> None:
    def peak(count: int) -> int:
        random = np.random.default_rng(0)
        statistics = [TensorStatistics(name) for name in "abcd"]
        tracemalloc.start()
        for k in range(count):
            for one in statistics:
                one.observe(random.normal(0, 1 + k / 100, (1, 25, 5, 8)).astype(np.float32))
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(2)
    few, many = peak(10), peak(2000)
    assert many < 1.1 * few


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (tensors(1), "one calibration sample"),
        (tensors(6, growth=1.5), "second half of the 6 calibration samples still widened the ranges of 1 of 1"),
        (steady(100), ""),
    ],
)
def test_too_few_samples_are_told(samples: list[Any], said: str) -> None:
    found = warn_small({"x": observed(samples)})
    assert found == [] if not said else said in found[0]


def test_one_tensor_among_many_may_still_widen() -> None:
    others = {str(k): observed(steady(100)) for k in range(9)}
    assert warn_small({**others, "x": observed(tensors(6, growth=1.5))}) == []


def test_the_second_half_is_found_among_any_number_of_samples() -> None:
    for count in (2, 31, 33, 100, 1000):
        values = [np.array([[float(k)]], np.float32) for k in range(1, count + 1)]
        assert observed(values).widened() == pytest.approx(0.5, abs=0.04)
    assert observed([np.zeros((1, 3), np.float32)] * 4).widened() == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda values: values, ""),
        (lambda values: values * 255, "lie well outside the range that the calibration samples reached"),
        (lambda values: values / 255, "of the calibrated range of tensor 'x' unused"),
        (lambda values: values + 3, "% of the values of tensor 'x'"),
    ],
)
def test_unlike_samples_are_told(change: Callable[[Any], Any], said: str) -> None:
    calibration = {"x": observed(tensors(40))}
    found = unlike(calibration, {"x": observed([change(values) for values in tensors(40, seed=1)])})
    assert found == [] if not said else said in found[0]


def test_the_share_outside_is_counted() -> None:
    half = np.linspace(-2, 2, 10_000, dtype=np.float32)
    found = unlike({"x": observed([half / 2])}, {"x": observed([half]), "y": observed([half])})
    assert found[0].startswith("48.1% of the values")  # half, but for a margin of 2 % of the range at either end


def test_single_values_leave_the_range_more_often_by_chance() -> None:
    random = np.random.default_rng(0)

    def drawn(size: int, width: float = 1.0) -> dict[str, TensorStatistics]:
        return {"x": observed([random.normal(0, width, (1, size)).astype(np.float32) for _ in range(30)])}

    assert not any(unlike(drawn(1), drawn(1)) for _ in range(20))
    assert unlike(drawn(1), drawn(1, 5.0))
    assert unlike(drawn(2000), drawn(2000, 2.0))


def test_strangers_cannot_be_compared() -> None:
    with pytest.raises(StageError, match="no tensor in common"):
        unlike({"x": observed(tensors(1))}, {"y": observed(tensors(1))})
