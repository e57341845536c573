"""ONNX networks of every family of detector, in a few nodes: an image in, outputs of the right shapes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Outputs = dict[str, tuple[int, ...]]


def write(
    path: Path, outputs: Outputs, *, image: tuple[int | str, ...] = (1, 3, 64, 64), last: str = "", opset: int = 18
) -> Path:
    """Write a network that pools its image to 8 numbers and makes every output of them; ``last``: an op behind."""
    weight = numpy_helper.from_array(np.full((8, 3, 3, 3), 0.1, np.float32), "kernel")
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["features"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
    ]
    constants = [weight]
    for name, shape in outputs.items():
        count = int(np.prod(shape))
        constants.append(numpy_helper.from_array(np.full((8, count), 0.1, np.float32), f"{name}_weight"))
        constants.append(numpy_helper.from_array(np.array(shape, np.int64), f"{name}_shape"))
        nodes.append(helper.make_node("MatMul", ["flat", f"{name}_weight"], [f"{name}_flat"]))
        nodes.append(helper.make_node("Reshape", [f"{name}_flat", f"{name}_shape"], [f"{name}_raw" if last else name]))
        if last:
            nodes.append(helper.make_node(last, [f"{name}_raw"], [name]))
    graph = helper.make_graph(
        nodes, "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, list(image))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs.items()],
        constants,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9), path)
    return path
