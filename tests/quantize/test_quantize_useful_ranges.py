"""What a reader cannot tell apart needs no steps of int8."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from onnx_graphs import model

from edgekit.quantize.graph import read_graph
from edgekit.quantize.useful_ranges import narrowed, useful_limits


def limits_of(path: Path, nodes: list[onnx.NodeProto], output: str) -> dict[str, tuple[float, float]]:
    proto = model(nodes, {"one": np.ones((1,), np.float32)}, {"x": [1, 4]}, {output: [1, 4]})
    onnx.save(proto, path)
    return useful_limits(read_graph(path, "onnx"))


def gate(tensor: str) -> onnx.NodeProto:
    return helper.make_node("HardSigmoid", [tensor], ["gate"], alpha=1 / 6, beta=0.5)


def test_hard_swish_is_blind_below_minus_3(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "one"], ["sum"]),
        gate("sum"),
        helper.make_node("Mul", ["sum", "gate"], ["swish"]),
        helper.make_node("Relu", ["swish"], ["y"]),
    ]
    assert limits_of(tmp_path / "m.onnx", nodes, "y")["sum"] == (-3.1, math.inf)


def test_a_hard_gate_is_blind_outside_minus_3_to_3(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "one"], ["sum"]), gate("sum"), helper.make_node("Mul", ["x", "gate"], ["y"])]
    assert limits_of(tmp_path / "m.onnx", nodes, "y") == {"sum": (-3.1, 3.1)}


def test_another_reader_sees_everything(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "one"], ["sum"]),
        gate("sum"),
        helper.make_node("Mul", ["sum", "gate"], ["swish"]),
        helper.make_node("Sub", ["swish", "sum"], ["y"]),
    ]
    assert "sum" not in limits_of(tmp_path / "m.onnx", nodes, "y")


def test_a_narrowed_range_still_holds_zero() -> None:
    assert narrowed((-20.0, 9.0), (-3.1, math.inf)) == (-3.1, 9.0)
    assert narrowed((0.0, 1.5), (-3.0, 3.0)) == (0.0, 1.5)
