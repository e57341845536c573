"""Write hard gates of a Q/DQ graph so that onnxruntime computes them on integers: it has no int8 HardSigmoid.

clip(x / 6 + 1/2, 0, 1) is x + 3 stored with a scale that reaches from 0 to 6, where storing does the clipping, and read
with a sixth of that scale. The addition has an integer kernel; DequantizeLinear, HardSigmoid and QuantizeLinear make
three passes over float numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from edgekit.convert.onnx_fusions import drop_unread

_STEPS = 255  # of uint8
_ALPHA, _BETA = 0.2, 0.5  # the ONNX specification's defaults


def spell_hard_gates(proto: onnx.ModelProto) -> int:
    """Rewrite every HardSigmoid between Q/DQ pairs of uint8 in place, and return how many there were.

    What reads the gate finds it under its old name, as float after DequantizeLinear.
    """
    graph = proto.graph
    made_by = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    found = 0
    for gate in [node for node in graph.node if node.op_type == "HardSigmoid"]:
        pulled = made_by.get(gate.input[0])
        pushed = _only(readers, gate.output[0], "QuantizeLinear")
        if pulled is None or pulled.op_type != "DequantizeLinear" or pushed is None or not _is_uint8(graph, pushed):
            continue
        read = _only(readers, pushed.output[0], "DequantizeLinear")
        if read is None or read.output[0] in outputs:
            continue
        _spell(graph, gate, pushed, read, readers)
        found += 1
    if found:
        drop_unread(graph)
    return found


def _only(readers: Mapping[str, list[onnx.NodeProto]], name: str, kind: str) -> onnx.NodeProto | None:
    nodes = readers.get(name, [])
    return nodes[0] if len(nodes) == 1 and nodes[0].op_type == kind else None


def _is_uint8(graph: onnx.GraphProto, pushed: onnx.NodeProto) -> bool:
    zero = next((tensor for tensor in graph.initializer if tensor.name == pushed.input[2]), None)
    return zero is not None and zero.data_type == onnx.TensorProto.UINT8


def _spell(
    graph: onnx.GraphProto,
    gate: onnx.NodeProto,
    pushed: onnx.NodeProto,
    read: onnx.NodeProto,
    readers: Mapping[str, list[onnx.NodeProto]],
) -> None:
    alpha, beta = _attribute(gate, "alpha", _ALPHA), _attribute(gate, "beta", _BETA)
    name = gate.output[0]
    zero = _add(graph, f"{name}_zero", np.uint8(0))
    offset = _add(graph, f"{name}_offset", np.uint8(_STEPS))
    offset_scale = _add(graph, f"{name}_offset_scale", np.float32(beta / alpha / _STEPS))
    wide = _add(graph, f"{name}_stored_scale", np.float32(1 / alpha / _STEPS))
    narrow = _add(graph, f"{name}_read_scale", np.float32(1 / _STEPS))
    constant = onnx.helper.make_node("DequantizeLinear", [offset, offset_scale, zero], [f"{name}_offset_float"])
    constant.name = constant.output[0]
    graph.node.append(constant)
    shifted = f"{name}_shifted"
    gate.CopyFrom(onnx.helper.make_node("Add", [gate.input[0], constant.output[0]], [shifted], shifted))
    pushed.input[:] = [shifted, wide, zero]
    for node in readers.get(read.output[0], []):
        node.input[:] = [name if each == read.output[0] else each for each in node.input]
    read.input[1:] = [narrow, zero]
    read.output[0] = name


def _attribute(node: onnx.NodeProto, name: str, default: float) -> float:
    return next((attribute.f for attribute in node.attribute if attribute.name == name), default)


def _add(graph: onnx.GraphProto, name: str, value: Any) -> str:
    graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    return name
