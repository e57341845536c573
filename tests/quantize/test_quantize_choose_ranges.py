"""Every method against what it promises, and the errors it expects against really rounding the values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphs
import pytest
from onnx import helper

from edgekit.errors import RecipeError
from edgekit.quantize.choose_ranges import RANGES, choose, expected_error, never_clipped
from edgekit.quantize.graph import read_graph
from edgekit.quantize.observers import TensorStatistics

Draw = Callable[[np.random.Generator], Any]
SHAPE = (1, 32, 32, 8)
DRAWS: dict[str, Draw] = {
    "normal": lambda random: random.normal(size=SHAPE),
    "relu": lambda random: np.maximum(random.normal(size=SHAPE), 0),
    "heavy tails": lambda random: random.standard_t(3, size=SHAPE),
    "uniform": lambda random: random.uniform(-1, 3, size=SHAPE),
    "negative": lambda random: -random.gamma(2, size=SHAPE),
}


def drawn(draw: Draw, count: int = 8) -> tuple[TensorStatistics, Any]:
    random = np.random.default_rng(0)
    samples = [draw(random).astype(np.float32) for _ in range(count)]
    statistics = TensorStatistics("x")
    for values in samples:
        statistics.observe(values)
    return statistics, np.stack(samples)


def rounding_error(values: Any, low: float, high: float) -> float:
    """Quantize to 8 bits with 0 on a step, as every runtime does."""
    step = (high - low) / 255
    zero = np.rint(-low / step)
    rounded = (np.clip(np.rint(values / step) + zero, 0, 255) - zero) * step
    return float(((rounded - values) ** 2).mean())


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("method", RANGES)
def test_expected_errors_are_those_of_rounding(draw: str, method: str) -> None:
    statistics, values = drawn(DRAWS[draw])
    low, high = RANGES[method](statistics)
    assert statistics.low <= low <= 0 <= high <= max(statistics.high, 0) or low == 0
    # The nudge that puts 0 on a step moves both ends by up to half a step.
    assert expected_error(statistics, low, high) == pytest.approx(rounding_error(values, low, high), rel=0.03)


@pytest.mark.parametrize("draw", DRAWS)
def test_mse_is_the_best_of_a_finer_search(draw: str) -> None:
    statistics, values = drawn(DRAWS[draw])
    found = rounding_error(values, *RANGES["mse"](statistics))
    low, high = RANGES["minmax"](statistics)
    searched = min(rounding_error(values, low * share, high * share) for share in np.linspace(0.05, 1, 60))
    assert found < 1.03 * searched


def test_percentile_leaves_one_value_in_ten_thousand_outside() -> None:
    statistics, values = drawn(DRAWS["normal"], 40)
    low, high = RANGES["percentile"](statistics)
    outside = ((values < low) | (values > high)).mean()
    assert outside == pytest.approx(1e-4, rel=0.3)  # 33 values are expected; a bin holds several


def test_entropy_ignores_a_far_outlier() -> None:
    def draw(random: np.random.Generator) -> Any:
        values = random.normal(size=SHAPE)
        values[0, 0, 0, 0] = 40
        return values

    statistics, _ = drawn(draw)
    low, high = RANGES["entropy"](statistics)
    assert 2 < high < 20
    assert -6 < low < -2


@pytest.mark.parametrize("value", [0.0, 5.0, -7.3])
@pytest.mark.parametrize("method", RANGES)
def test_constants_have_ranges(value: float, method: str) -> None:
    statistics, _ = drawn(lambda random: np.full(SHAPE, value), 2)
    low, high = RANGES[method](statistics)
    assert low <= 0 <= high


def test_the_cheapest_method_is_chosen() -> None:
    found = choose({name: drawn(draw)[0] for name, draw in DRAWS.items()}, ())
    assert {name: found[name][2] for name in ("heavy tails", "uniform")} == {"heavy tails": "mse", "uniform": "minmax"}
    assert all(low <= 0 <= high for low, high, _ in found.values())


def test_only_the_given_methods_are_tried() -> None:
    statistics = {"x": drawn(DRAWS["normal"])[0]}
    assert choose(statistics, (), ["percentile"])["x"][2] == "percentile"
    assert choose(statistics, (), [])["x"][2] == "minmax"
    with pytest.raises(RecipeError, match="kld"):
        choose(statistics, (), ["kld"])


def test_outputs_and_tiny_vectors_are_not_clipped() -> None:
    statistics, values = drawn(DRAWS["heavy tails"])
    assert choose({"x": statistics}, {"x"})["x"] == (values.min(), values.max(), "minmax")
    tiny, values = drawn(lambda random: random.standard_t(2, size=(1, 1000)), 50)
    assert choose({"x": tiny}, ())["x"] == (values.min(), values.max(), "minmax")


def test_what_only_decoding_reads_is_never_clipped(tmp_path: Path) -> None:
    graph = read_graph(onnx_graphs.save(onnx_graphs.detector(), tmp_path), "onnx")
    assert never_clipped(graph) == {"box_map", "score_map", "boxes", "scores", "detections"}


def test_probabilities_are_never_clipped_wherever_they_are_moved(tmp_path: Path) -> None:
    constants = {"w": np.ones((2, 2, 1, 1), np.float32), "axes": np.array([2])}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Sigmoid", ["c"], ["gate"]),
        helper.make_node("Transpose", ["gate"], ["turned"], perm=[0, 1, 3, 2]),
        helper.make_node("Conv", ["turned", "w"], ["y"]),
    ]
    proto = onnx_graphs.model(nodes, constants, {"x": [1, 2, 3, 3]}, {"y": [1, 2, 3, 3]})
    assert never_clipped(read_graph(onnx_graphs.save(proto, tmp_path), "onnx")) == {"gate", "turned", "y"}
