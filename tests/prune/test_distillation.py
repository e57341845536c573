"""0 for a perfect student, about 1 for a constant one, whatever the outputs mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.prune.keras.signature import as_tensors
from edgekit.prune.recovery.detections import find_detections
from edgekit.prune.recovery.distillation import Distillation

pytestmark = pytest.mark.slow

RANDOM = np.random.default_rng(0)


def softmax(values: Any) -> Any:
    raised = np.exp(values)
    return (raised / raised.sum(axis=-1, keepdims=True)).astype(np.float32)


OUTPUTS = {
    "probabilities": softmax(RANDOM.normal(0, 2, (200, 10))),
    "heatmap": (1 / (1 + np.exp(-RANDOM.normal(-3, 2, (200, 6, 6, 3))))).astype(np.float32),
    "regression": RANDOM.normal(50, [1, 20, 300], (200, 3)).astype(np.float32),
}


def distance(taught: dict[str, Any], given: dict[str, Any]) -> float:
    return float(Distillation.fit(taught)(as_tensors(given), as_tensors(taught)))


@pytest.mark.parametrize("kind", OUTPUTS)
def test_scale(kind: str) -> None:
    taught = {kind: OUTPUTS[kind]}
    axes = tuple(range(OUTPUTS[kind].ndim - 1))
    constant = np.broadcast_to(OUTPUTS[kind].mean(axis=axes), OUTPUTS[kind].shape)
    assert distance(taught, taught) == pytest.approx(0.0, abs=1e-4)  # clipping at 1e-6 in float32
    assert distance(taught, {kind: constant}) == pytest.approx(1.0, rel=1e-2)


def test_every_channel_of_a_regression_counts_by_its_own_spread() -> None:
    taught = {"regression": OUTPUTS["regression"]}
    errors = []
    for channel, spread in enumerate((1, 20, 300)):
        given = OUTPUTS["regression"].copy()
        given[:, channel] += 0.5 * spread
        errors.append(distance(taught, {"regression": given}))
    assert max(errors) < 1.3 * min(errors)  # sample deviations of 200 draws differ by some percent


def detections() -> dict[str, Any]:
    """64 cells, of which the first 4 hold objects."""
    scores = np.full((50, 64, 3), 1e-4, np.float32)
    scores[:, :4, 1] = 0.9
    return {
        "boxes": RANDOM.normal(64, 10, (50, 64, 4)).astype(np.float32),
        "scores": scores + RANDOM.random(scores.shape, np.float32) * 1e-4,
    }


def test_boxes_count_by_the_score_beside_them() -> None:
    taught = detections()
    confident, background = taught["boxes"].copy(), taught["boxes"].copy()
    confident[:, :4] += 10.0
    background[:, 4:] += 10.0
    wrong_where_it_matters = distance(taught, {**taught, "boxes": confident})
    wrong_elsewhere = distance(taught, {**taught, "boxes": background})
    assert wrong_where_it_matters > 100 * wrong_elsewhere


def test_integer_outputs_are_not_distilled() -> None:
    assert distance({"label": np.arange(5)}, {"label": np.arange(5) + 1}) == 0.0


def test_detection_pairs_need_matching_rows_and_one_partner() -> None:
    assert find_detections({"b": (None, 100, 4), "s": (None, 100, 80)}) == {"b": "s"}
    assert find_detections({"b": (None, 100, 4), "s": (None, 99, 80)}) == {}
    assert find_detections({"b": (None, 100, 4), "s": (None, 100, 80), "m": (None, 100, 32)}) == {}
    assert find_detections({"b": (None, 4), "s": (None, 80)}) == {}
