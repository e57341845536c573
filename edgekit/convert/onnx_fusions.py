"""Write a few ops as the one op they are: fewer passes over memory, and fewer borders once it is quantized."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

Constants = Mapping[str, npt.NDArray[Any]]
_ALPHA, _BETA = 1.0 / 6.0, 0.5


def fuse_hard_sigmoid(proto: onnx.ModelProto) -> int:
    """Turn clip(x + 3, 0, 6) / 6 into HardSigmoid(x), in place, and return how many were found.

    TensorFlow spells hard-swish and hard-sigmoid this way: three passes where ONNX has one op.
    """
    graph = proto.graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    made_by: dict[str, onnx.NodeProto] = {name: node for node in graph.node for name in node.output}
    readers: dict[str, int] = {}
    for name in (*(name for node in graph.node for name in node.input), *(value.name for value in graph.output)):
        readers[name] = readers.get(name, 0) + 1
    found = 0
    for scaled in [node for node in graph.node if node.op_type in ("Mul", "Div")]:
        clipped = _divided_by_6(scaled, constants, made_by)
        added = made_by.get(clipped.input[0]) if clipped is not None and _is_0_to_6(clipped, constants) else None
        if clipped is None or added is None or readers[clipped.output[0]] > 1 or readers[added.output[0]] > 1:
            continue
        source = _plus_3(added, constants)
        if not source:
            continue
        fused = onnx.helper.make_node(
            "HardSigmoid", [source], list(scaled.output), scaled.name, alpha=_ALPHA, beta=_BETA
        )
        scaled.CopyFrom(fused)
        graph.node.remove(clipped)
        graph.node.remove(added)
        found += 1
    if found:
        drop_unread(graph)
    return found


def fuse_global_average(proto: onnx.ModelProto) -> int:
    """Turn ReduceMean over the rows and columns of (N, C, H, W) into GlobalAveragePool, in place; returns how many.

    The pooling has an int8 kernel and one for blocked channels; the reduction has neither.
    """
    graph = proto.graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    means = [node for node in graph.node if node.op_type == "ReduceMean" and _over_image(node, constants)]
    known = onnx.shape_inference.infer_shapes(proto).graph if means else graph
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in (*known.value_info, *known.input)}
    found = 0
    for node in means:
        if ranks.get(node.input[0]) != 4:
            continue
        node.CopyFrom(onnx.helper.make_node("GlobalAveragePool", [node.input[0]], list(node.output), node.name))
        found += 1
    if found:
        drop_unread(graph)
    return found


def _over_image(node: onnx.NodeProto, constants: Constants) -> bool:
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    axes = constants[node.input[1]] if len(node.input) > 1 and node.input[1] in constants else attributes.get("axes")
    keeps = attributes.get("keepdims", 1) == 1
    return keeps and axes is not None and sorted(int(axis) % 4 for axis in axes) == [2, 3]


def drop_unread(graph: onnx.GraphProto) -> None:
    """Remove initializers that no node reads, in place."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _divided_by_6(
    node: onnx.NodeProto, constants: Constants, made_by: Mapping[str, onnx.NodeProto]
) -> onnx.NodeProto | None:
    wanted = 6.0 if node.op_type == "Div" else 1.0 / 6.0
    for position in (1, 0) if node.op_type == "Mul" else (1,):
        other = made_by.get(node.input[1 - position])
        if _is_scalar(node.input[position], constants, wanted) and other is not None and other.op_type == "Clip":
            return other
    return None


def _is_0_to_6(clip: onnx.NodeProto, constants: Constants) -> bool:
    limits = list(clip.input[1:])
    return len(limits) == 2 and _is_scalar(limits[0], constants, 0.0) and _is_scalar(limits[1], constants, 6.0)


def _plus_3(node: onnx.NodeProto, constants: Constants) -> str:
    if node.op_type != "Add":
        return ""
    return next((node.input[1 - i] for i in (0, 1) if _is_scalar(node.input[i], constants, 3.0)), "")


def _is_scalar(name: str, constants: Constants, value: float) -> bool:
    array = constants.get(name)
    return array is not None and array.size == 1 and bool(np.isclose(float(array.reshape(-1)[0]), value, rtol=1e-6))


def pad_instead_of_zeros(proto: onnx.ModelProto) -> None:
    """Write a Concat with constant zeros as the Pad that it is, in place: TFLite has one op for it, and no constant."""
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        zeros = [position for position, name in enumerate(node.input) if name in constants]
        if node.op_type != "Concat" or len(node.input) != 2 or len(zeros) != 1:
            continue
        [position] = zeros
        values = onnx.numpy_helper.to_array(constants[node.input[position]])
        if values.any():
            continue
        axis = next(attribute.i for attribute in node.attribute if attribute.name == "axis")
        pads = np.zeros((2, values.ndim), np.int64)
        pads[position, axis] = values.shape[axis]
        name = f"{node.output[0]}_pads"
        proto.graph.initializer.append(onnx.numpy_helper.from_array(pads.reshape(-1), name))
        padded = onnx.helper.make_node("Pad", [node.input[1 - position], name], list(node.output), node.name)
        node.CopyFrom(padded)
