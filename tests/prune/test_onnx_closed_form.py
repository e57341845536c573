"""Ranking and repairing ONNX graphs without labels or training."""

from __future__ import annotations

from pathlib import Path

import cut_graphs
import numpy as np
import onnx
import pytest

from edgekit.prune.onnx import surgery
from edgekit.prune.onnx.analysis import analyze
from edgekit.prune.onnx.execute import answers, distance
from edgekit.prune.onnx.importance import IMPORTANCE
from edgekit.prune.onnx.least_squares import RefitSettings, refit
from edgekit.prune.onnx.network import Network, read
from edgekit.prune.onnx.relevance import Relevance
from edgekit.prune.onnx.walk import walk
from edgekit.prune.onnx.windows import window_of
from edgekit.prune.selection.cost import Macs
from edgekit.prune.selection.greedy import select


def smooth_samples(network: Network, count: int, seed: int = 5) -> dict[str, np.ndarray]:
    """Images with neighbours alike, as those of the world are."""
    found = cut_graphs.samples(network, count, seed)
    for name, array in found.items():
        for axis in range(2, array.ndim):
            array = array + np.roll(array, 1, axis) + np.roll(array, 2, axis)
        found[name] = (array / array.std()).astype(np.float32)
    return found


@pytest.mark.parametrize("name", ["residual", "flattened", "transformer", "sequence", "channels_last", "multiplied"])
def test_a_walk_computes_what_the_whole_network_does(name: str, tmp_path: Path) -> None:
    network = cut_graphs.network(name, tmp_path)
    inputs = cut_graphs.samples(network, 3)
    stops = [node.name for node in network.nodes if window_of(network, node)]
    seen = []

    def visit(node, values) -> None:
        window = window_of(network, node)
        given, made = (np.concatenate(values[0][name]) for name in (node.inputs[0], node.outputs[0]))
        chosen = np.arange(window.places((1, *made.shape[1:])))
        rows = window.rows(given, chosen, made.shape)
        bias = network.constants[node.inputs[2]] if len(node.inputs) > 2 else 0.0
        weights = window.weights(network.constants[node.inputs[1]])
        expected = (np.einsum("rof,fo->ro", rows, weights) if window.depthwise else rows @ weights) + bias
        np.testing.assert_allclose(window.made(made, chosen), expected, rtol=1e-3, atol=1e-4)
        seen.append(node.name)

    walk([network, network], inputs, stops, visit)
    assert seen == stops


@pytest.mark.parametrize("name", ["chain", "residual", "flattened", "depthwise", "branches", "transformer", "sequence"])
def test_the_repair_brings_the_outputs_nearer(name: str, tmp_path: Path) -> None:
    network = cut_graphs.network(name, tmp_path)
    graph = analyze(network)
    inputs, unseen = smooth_samples(network, 48), smooth_samples(network, 16, 77)
    ranking = IMPORTANCE["reconstruction"](network, graph, inputs, 0)
    selection = select(graph, ranking, Macs(), 0.6, round_to=2, min_channels=2)
    cut = surgery.pruned(network, graph, selection.mask(graph))

    found = refit(cut, network, graph, selection, inputs, RefitSettings())

    expected = answers(network.proto.SerializeToString(), unseen)
    before, after = (distance(expected, answers(content, unseen)) for content in (cut, found.content))
    assert found.kept == "least squares"
    assert after < 0.6 * before
    again = refit(cut, network, graph, selection, inputs, RefitSettings())
    assert again.content == found.content


def test_a_channel_that_others_predict_costs_least(tmp_path: Path) -> None:
    """Two twins of one channel: either may go, for the other takes over its weights; both may not."""
    path = tmp_path / "twins.onnx"
    model = cut_graphs.GRAPHS["chain"](cut_graphs.Graph())
    kernel = next(item for item in model.graph.initializer if list(item.dims) == [16, 3, 3, 3])
    bias = next(item for item in model.graph.initializer if list(item.dims) == [16])
    weights, shifts = onnx.numpy_helper.to_array(kernel).copy(), onnx.numpy_helper.to_array(bias).copy()
    weights[5], shifts[5] = weights[11], shifts[11]
    kernel.CopyFrom(onnx.numpy_helper.from_array(weights, kernel.name))
    bias.CopyFrom(onnx.numpy_helper.from_array(shifts, bias.name))
    onnx.save(model, path)
    network = read(cut_graphs.from_onnx(path))
    graph = analyze(network)

    found = IMPORTANCE["reconstruction"](network, graph, cut_graphs.samples(network, 32), 0)

    block = next(block for block in graph.blocks if block.layers == ("first",))
    scores = found[list(block.units)]
    first, second = sorted((scores[5], scores[11]))
    assert first == scores.min()
    assert second > 20 * first


@pytest.mark.parametrize("method", sorted(IMPORTANCE))
def test_every_method_ranks_every_unit_alike_twice(method: str, tmp_path: Path) -> None:
    network = cut_graphs.network("residual", tmp_path)
    graph = analyze(network)
    inputs = cut_graphs.samples(network, 8)
    one, two = (IMPORTANCE[method](network, graph, inputs, 3) for _ in range(2))
    assert one.shape == (graph.unit_count,)
    assert np.isfinite(one).all()
    np.testing.assert_array_equal(one, two)


def test_a_detector_errs_less_where_it_sees_something(tmp_path: Path) -> None:
    found = Relevance.of(
        onnx_network_with_a_map(tmp_path),
        [{"boxes": np.zeros((1, 144, 4), np.float32), "scores": one_hot(number, 144)} for number in (0, 143)],
    )
    assert found is not None
    assert found.cells.shape == (2, 12, 12)
    assert found.cells[0, 0, 0] == found.cells[0, 2, 2] == found.cells[1, 11, 11] > 20
    assert found.cells[0, 3, 3] == found.cells[1, 0, 0] == 1
    coarse = found.at((1, 8, 6, 6))
    assert coarse is not None
    assert coarse.shape == (2, 36)
    assert coarse[0, 0] == coarse[1, 35] == found.cells.max()
    assert found.at((1, 144, 3)) is None


def test_a_classifier_heeds_everything_alike(tmp_path: Path) -> None:
    network = cut_graphs.network("chain", tmp_path)
    assert Relevance.of(network, answers(network.proto.SerializeToString(), cut_graphs.samples(network, 2))) is None


def onnx_network_with_a_map(folder: Path) -> Network:
    return cut_graphs.network("branches", folder)  # its map has 12 x 12 cells, one for each of 144 boxes


def one_hot(number: int, count: int) -> np.ndarray:
    scores = np.zeros((1, count, 3), np.float32)
    scores[0, number, 1] = 0.5
    return scores
