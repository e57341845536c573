"""Parity: the error is relative where values are large, and everything that is not a number fails."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.convert.parity import FLOAT_TOLERANCE, compare

REFERENCE = {"boxes": np.array([[100.0, -50.0]]), "scores": np.array([[0.5, 0.01]])}


def moved(name: str, by: float) -> dict[str, np.ndarray]:
    return {**REFERENCE, name: REFERENCE[name] + by}


def test_equal_outputs_pass_with_no_error() -> None:
    found = compare(REFERENCE, REFERENCE)
    assert found.passed
    assert found.max_error == 0.0
    assert found.problem == ""


def test_errors_are_relative_to_large_outputs_and_absolute_for_small_ones() -> None:
    assert compare(REFERENCE, moved("boxes", 0.005)).errors["boxes"] == pytest.approx(5e-5)
    assert compare(REFERENCE, moved("scores", 0.005)).errors["scores"] == pytest.approx(5e-3)


def test_the_tolerance_is_a_limit() -> None:
    assert compare(REFERENCE, moved("scores", 0.9 * FLOAT_TOLERANCE)).passed
    beyond = compare(REFERENCE, moved("scores", 1.1 * FLOAT_TOLERANCE))
    assert not beyond.passed
    assert "'scores' differs" in beyond.problem
    assert compare(REFERENCE, moved("scores", 0.01), tolerance=0.1).passed


@pytest.mark.parametrize(
    ("actual", "told"),
    [
        ({"boxes": REFERENCE["boxes"]}, "'scores' is missing"),
        ({**REFERENCE, "extra": np.zeros(1)}, "'extra' is not an output"),
        ({**REFERENCE, "boxes": np.zeros((1, 3))}, r"'boxes' has shape \(1, 3\)"),
        ({**REFERENCE, "boxes": np.array([[100.0, np.nan]])}, "'boxes' has NaN"),
        ({**REFERENCE, "boxes": np.array([[np.inf, -50.0]])}, "'boxes' has NaN or infinity"),
    ],
)
def test_what_is_not_comparable_fails_and_says_why(actual: dict[str, np.ndarray], told: str) -> None:
    found = compare(REFERENCE, actual)
    assert not found.passed
    assert found.max_error == np.inf
    with pytest.raises(AssertionError, match=told):
        raise AssertionError(found.problem)


def test_a_broken_reference_never_passes() -> None:
    broken = {"boxes": np.array([np.nan])}
    assert not compare(broken, broken).passed
    assert not compare({}, {}).passed
