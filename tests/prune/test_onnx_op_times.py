"""The latency model for ONNX networks: which ops they run, and a choice by their times; without a stopwatch."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import cut_graphs
import onnx
import pytest
from test_onnx_stage import prepared, run

from edgekit.convert.onnx_file import from_onnx
from edgekit.prune.channels.graph import ChannelGraph
from edgekit.prune.latency.aim import predicted_speedup
from edgekit.prune.latency.costs import COSTS, cost_named
from edgekit.prune.latency.grid import all_points, grid_of
from edgekit.prune.latency.ops import ops_of
from edgekit.prune.latency.table import Place
from edgekit.prune.onnx.analysis import analyze
from edgekit.prune.onnx.network import read

FLOAT = Place("local", "a CPU", "a runtime", "onnx", "float32", 1)
TILE = 8


def analyzed(model: onnx.ModelProto, folder: Path) -> ChannelGraph:
    onnx.save(model, folder / "model.onnx")
    return analyze(read(from_onnx(folder / "model.onnx")))


def test_the_ops_of_a_network_are_listed_with_what_they_run_on(tmp_path: Path) -> None:
    g = cut_graphs.Graph()
    x = g.op("Relu", g.conv("image", 3, 16, "stem", strides=[2, 2]))
    x = g.op("Mul", x, g.op("Sigmoid", x))
    x = g.conv(x, 16, 16, "depthwise", kernel=5, group=16)
    x = g.op("MaxPool", g.conv(x, 16, 32, "point", kernel=1), kernel_shape=[2, 2], strides=[2, 2])
    x = g.op("Resize", x, "", g.constant([1, 1, 2, 2]), mode="nearest")
    x = g.op("Flatten", g.op("GlobalAveragePool", x))
    x = g.op("Add", g.op("MatMul", x, g.weight(32, 5)), g.constant(g.random.standard_normal(5)), name="classes")
    ops = ops_of(analyzed(g.model(x), tmp_path))
    assert [(op.shape.key if op.shape else "", len(op.inputs), len(op.outputs)) for op in ops] == [
        ("conv 12x12 k3x3 s2x2 d1x1 same", 3, 16),
        ("sigmoid 6x6 k1x1 s1x1 d1x1 same", 16, 16),
        ("mul 6x6 k1x1 s1x1 d1x1 same", 16, 16),
        ("depthwise 6x6 k5x5 s1x1 d1x1 same", 16, 16),
        ("conv 6x6 k1x1 s1x1 d1x1 same", 16, 32),
        ("max_pool 6x6 k2x2 s2x2 d1x1 same", 32, 32),
        ("nearest 3x3 k1x1 s2x2 d1x1 same", 32, 32),
        ("global 6x6 k1x1 s1x1 d1x1 same", 32, 32),
        ("dense 1x1 k1x1 s1x1 d1x1 same", 32, 5),  # and the sum behind it is its bias
    ]


@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 2, 1], [3, 3, 3, 3]], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_is_timed_with_the_output_it_has(stride: int, pads: list[int], tmp_path: Path) -> None:
    g = cut_graphs.Graph()
    kernel = g.weight(8, 3, 3, 3)
    x = g.op("Conv", "image", kernel, name="only", pads=pads, strides=[stride, stride])  # no kernel_shape
    [op, *_] = ops_of(analyzed(g.model(cut_graphs.pooled(g, x, 8)), tmp_path))
    assert op.shape is not None
    height, width = ((12 + pads[axis] + pads[axis + 2] - 3) // stride + 1 for axis in (0, 1))
    assert (op.shape.kernel, op.shape.output_size) == ((3, 3), (height, width))


@pytest.mark.parametrize("name", cut_graphs.GRAPHS)
def test_every_multiply_accumulate_is_in_some_op(name: str, tmp_path: Path) -> None:
    graph = analyze(cut_graphs.network(name, tmp_path))
    counted = sum(term.factor * len(term.inputs) * len(term.outputs) for op in ops_of(graph) for term in op.terms)
    assert counted == graph.macs()


def costs(graph: ChannelGraph, folder: Path) -> Path:
    """Write the times of a made-up machine whose convolutions come in tiles of output channels."""
    points = all_points(grid_of(op, 0.8) for op in ops_of(graph))
    times = {point.key: 1000 * max(point.channels_in, 1) * -(-point.channels_out // TILE) for point in points}
    table = {"place": asdict(FLOAT), "times_ns": times}
    (folder / COSTS).write_text(json.dumps({"largest_cut": 0.8, "tables": [table]}))
    return folder / COSTS


def test_a_speedup_is_reached_by_prediction_in_steps_that_save_time(tmp_path: Path) -> None:
    model = prepared(tmp_path / "m", "chain", samples=8)  # too few to hold any apart: none are needed
    g = cut_graphs.Graph()
    x = g.block(g.block(g.block("image", 3, 48, "first"), 48, 64, "second"), 64, 40, "third")
    graph = analyzed(g.model(cut_graphs.pooled(g, x, 40)), model.parent)
    file = costs(graph, tmp_path)
    facts = run(
        model, tmp_path / "out", costs=[file], speedup=1.5, keep_macs="auto", cost="latency", round_to="auto",
    )  # fmt: skip
    assert (facts["cost"], facts["notes"]) == ("latency", [])
    [place] = facts["predicted"]
    assert 1.5 <= place["before_ms"] / place["after_ms"] < 3
    assert all(after % TILE == 0 for _, _, after in facts["widths"])
    cost, _ = cost_named("latency", graph, [file])
    assert predicted_speedup(cost, graph, graph.all_kept()) == pytest.approx(1.0)


def test_a_speedup_that_the_network_has_already_cuts_nothing(tmp_path: Path) -> None:
    model = prepared(tmp_path / "m", "chain")
    g = cut_graphs.Graph()
    x = g.block(g.block(g.block("image", 3, 48, "first"), 48, 64, "second"), 64, 40, "third")
    graph = analyzed(g.model(cut_graphs.pooled(g, x, 40)), model.parent)
    facts = run(
        model, tmp_path / "out", costs=[costs(graph, tmp_path)], speedup=0.9, keep_macs="auto", cost="latency",
        round_to="auto",
    )  # fmt: skip
    assert facts["macs_after"] == facts["macs_before"]
    assert facts["exactness_error"] is None
    assert "as fast as the budget asks, as it is" in facts["notes"][-1]


def test_without_times_the_choice_is_by_multiply_accumulates_and_that_is_said(tmp_path: Path) -> None:
    facts = run(prepared(tmp_path / "m", "chain"), tmp_path / "out", cost="latency")
    assert (facts["cost"], facts["predicted"]) == ("macs", [])
    assert "multiply-accumulates" in facts["notes"][0]
