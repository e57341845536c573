"""Least squares in front of an activation that clips."""

from __future__ import annotations

import math
from pathlib import Path

import cut_graphs
import numpy as np
import onnx
import pytest

from edgekit.convert.onnx_file import from_onnx
from edgekit.prune.onnx import layer_fit, surgery
from edgekit.prune.onnx.analysis import analyze
from edgekit.prune.onnx.clipped import Bounds, Seen, bounds_behind, clipped_fit, rows_affordable
from edgekit.prune.onnx.execute import answers, distance
from edgekit.prune.onnx.least_squares import RefitSettings, refit, sums
from edgekit.prune.onnx.network import Network, read
from edgekit.prune.repair.linear_fit import Moments, damped_fit
from edgekit.prune.selection.cost import Macs
from edgekit.prune.selection.greedy import select

RELU, RELU6 = Bounds(0.0, math.inf), Bounds(0.0, 6.0)


def problem(rows: int, seed: int, features: int = 6, outputs: int = 3, beside: bool = False) -> Seen:
    """Rows whose targets depend on the features, and where they are negative on what nobody sees, too."""
    random = np.random.default_rng(seed)
    mixing = np.random.default_rng(7).standard_normal((features, outputs))
    x = random.standard_normal((rows, features))
    shortcut = random.standard_normal((rows, outputs)) if beside else None
    y = x @ mixing + 0.3 * random.standard_normal((rows, outputs)) + (0.0 if shortcut is None else shortcut)
    y = np.where(y < 0, y * random.uniform(0.1, 5.0, y.shape), y)
    y = y if shortcut is None else y - shortcut
    one = np.concatenate([x, np.ones((rows, 1))], axis=1).astype(np.float32)
    both = None if shortcut is None else shortcut.astype(np.float32)
    return Seen(one, y.astype(np.float32), both, np.ones((rows, 1), np.float32))


def plain(rows: Seen) -> Moments:
    x, y = rows.features.astype(np.float64), rows.wanted.astype(np.float64)
    return Moments(x.T @ x, x.T @ y, np.sum(y * y, 0), np.sum(y, 0), len(y))


def behind(rows: Seen, weights: np.ndarray, bounds: Bounds) -> float:
    off = np.clip(rows.made(weights), bounds.low, bounds.high) - np.clip(rows.target, bounds.low, bounds.high)
    return float(np.mean(off**2))


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "behind_a_sum"])
@pytest.mark.parametrize("bounds", [RELU, RELU6], ids=["relu", "relu6"])
def test_what_is_cut_off_need_not_be_right(bounds: Bounds, beside: bool) -> None:
    known, unseen, fresh = (problem(rows, seed, beside=beside) for seed, rows in enumerate((3000, 500, 2000)))
    start = damped_fit(plain(known), plain(unseen), np.zeros((7, 3)), constant=True).weights
    found = clipped_fit(known, unseen, start, bounds, constant=True)
    assert behind(fresh, found, bounds) < 0.6 * behind(fresh, start, bounds)


def test_where_nothing_is_cut_off_it_is_least_squares() -> None:
    known, unseen = problem(3000, 0), problem(500, 1)
    nothing = Bounds(-math.inf, math.inf)
    found = clipped_fit(known, unseen, np.zeros((7, 3)), nothing, constant=True)
    exact = np.linalg.lstsq(known.features.astype(np.float64), known.wanted.astype(np.float64), rcond=None)[0]
    assert behind(known, found, nothing) == pytest.approx(behind(known, exact, nothing), rel=1e-3)


def test_without_enough_rows_for_its_features_a_layer_is_left_to_plain_least_squares() -> None:
    assert rows_affordable(9 * 64, 64) > 24 * 9 * 64
    assert rows_affordable(9 * 512, 512) == 0


def network(graph: cut_graphs.Graph, output: str, folder: Path) -> Network:
    onnx.save(graph.model(output), folder / "model.onnx")
    return read(from_onnx(folder / "model.onnx"))


def bounds_of(found: Network) -> dict[str, Bounds | None]:
    shortcuts, added = sums(found)
    adds = {
        node.name: next(other.name for other in found.nodes if node.outputs[0] in other.inputs)
        for node in found.nodes
        if node.name in {*shortcuts, *added}
    }
    return {node.name: bounds_behind(found, node, adds) for node in found.nodes if node.op in ("Conv", "Gemm")}


def test_the_activation_behind_is_found_through_a_sum(tmp_path: Path) -> None:
    found = bounds_of(cut_graphs.network("residual", tmp_path))
    assert found["stem"] == found["inner_0"] == found["outer_0"] == found["shortcut"] == RELU
    assert found["classes"] is None


def test_an_activation_is_no_bound_where_others_read_what_it_clips(tmp_path: Path) -> None:
    g = cut_graphs.Graph()
    six = g.op("Clip", g.conv("image", 3, 8, "six"), g.constant(0.0), g.constant(6.0))
    twice = g.conv(six, 8, 8, "twice")
    x = g.op("Mul", g.op("Relu", twice), twice)
    x = g.op("LeakyRelu", g.conv(x, 8, 8, "leaky"))
    found = bounds_of(network(g, cut_graphs.pooled(g, x, 8), tmp_path))
    assert found == {"six": RELU6, "twice": None, "leaky": None, "classes": None}


@pytest.mark.parametrize("kind", ["convolution", "bias_outside"])
def test_a_repair_that_heeds_the_activation_comes_nearer(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    g = cut_graphs.Graph()
    x = g.block("image", 3, 16, "first")
    if kind == "convolution":
        x = g.block(x, 16, 16, "second")
    else:  # as a product with its bias in an Add
        x = g.op("Transpose", x, perm=[0, 2, 3, 1])
        x = g.op("Relu", g.op("Add", g.op("MatMul", x, g.weight(16, 24)), g.constant(np.full(24, -1.0))))
    found = network(g, x, tmp_path)  # what is behind the activation is the output
    inputs, unseen = cut_graphs.samples(found, 64), cut_graphs.samples(found, 32, 9)
    graph = analyze(found)
    selection = select(graph, np.arange(graph.unit_count, dtype=float), Macs(), 0.6, round_to=2, min_channels=2)
    cut = surgery.pruned(found, graph, selection.mask(graph))
    expected = answers((tmp_path / "model.onnx").read_bytes(), unseen)

    def off() -> float:
        repaired = refit(cut, found, graph, selection, inputs, RefitSettings())
        return distance(expected, answers(repaired.content, unseen))

    heeding = off()
    monkeypatch.setattr(layer_fit, "rows_affordable", lambda features, outputs: 0)
    assert heeding < 0.98 * off()
