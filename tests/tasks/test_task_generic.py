"""Agreement with the baseline's raw outputs, where there is no truth."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import floats

from edgekit.errors import StageError
from edgekit.tasks import generic


def test_the_baseline_agrees_with_itself() -> None:
    outputs = [{"y": floats([[1, 2]])}, {"y": floats([[3, 4]])}]
    assert generic.score(outputs, None, []).value == 1.0


def test_agreement_is_one_minus_the_relative_error_of_each_sample() -> None:
    baseline = [{"y": floats([[3, 4]])}, {"y": floats([[3, 4]])}]
    this = [{"y": floats([[3, 4]])}, {"y": floats([[3, 3]])}]
    score = generic.score(this, baseline, [])
    assert score.value == pytest.approx(1 - 0.2 / 2)
    assert score.secondary == {"worst sample": pytest.approx(0.8)}
    drop = generic.drop(baseline, this, None, [], 200, 0)
    assert drop.points == pytest.approx(10.0)
    assert drop.low_points == pytest.approx(0.0)
    assert drop.high_points == pytest.approx(20.0)


def test_it_is_never_below_zero_and_each_output_counts_alike() -> None:
    baseline = [{"big": floats([1000.0]), "small": floats([0.001])}]
    this = [{"big": floats([1000.0]), "small": floats([-5.0])}]
    assert generic.score(this, baseline, []).value == pytest.approx(0.5)


def test_a_baseline_of_zeros_is_met_exactly_or_not_at_all() -> None:
    zero = [{"y": np.zeros((1, 3), np.float32)}]
    assert generic.score(zero, zero, []).value == 1.0
    assert generic.score([{"y": np.full((1, 3), 1e-9)}], zero, []).value == 0.0


def test_other_outputs_than_the_baseline_are_an_error() -> None:
    with pytest.raises(StageError, match=r"z \(1,\), the baseline's are y \(1,\)"):
        generic.score([{"z": np.zeros(1)}], [{"y": np.zeros(1)}], [])
