"""An ONNX file as nodes and arrays, ready to be cut: every weight has one reader, every size is written down."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgekit.errors import UnsupportedError

Array = npt.NDArray[Any]
Sizes = tuple[int | None, ...]
_KERNELS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}  # whose weights several nodes may share


@dataclass(frozen=True, eq=False)
class Node:
    """One operator. ``inputs`` holds "" where an optional one is left out.

    captured: tensors of this graph that a graph inside it (If, Loop, Scan) reads.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    captured: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Network:
    """A whole ONNX model. ``shapes`` misses tensors of unknown rank; ``owners``: node and input of each constant."""

    proto: onnx.ModelProto
    nodes: tuple[Node, ...]
    constants: dict[str, Array]
    shapes: dict[str, Sizes]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @cached_property
    def owners(self) -> dict[str, tuple[str, int]]:
        """Return the node and the position that each constant is counted for: its first reader."""
        found: dict[str, tuple[str, int]] = {}
        for node in self.nodes:
            for index, name in enumerate(node.inputs):
                if name in self.constants:
                    found.setdefault(name, (node.name, index))
        return found

    def readers(self, name: str) -> list[str]:
        """Return the operators that read a tensor."""
        return [node.op for node in self.nodes if name in node.inputs]

    @property
    def parameters(self) -> int:
        """Count the floating-point values that the file holds."""
        return sum(array.size for array in self.constants.values() if np.issubdtype(array.dtype, np.floating))

    def weight_shapes(self) -> dict[str, tuple[tuple[int, ...], ...]]:
        """Return per node the shape of the weight at each input: (0,) where there is none, or another node's."""
        owned: dict[str, dict[int, tuple[int, ...]]] = {}
        for name, (node, index) in self.owners.items():
            if np.issubdtype(self.constants[name].dtype, np.floating):
                owned.setdefault(node, {})[index] = self.constants[name].shape
        return {
            node: tuple(shapes.get(index, (0,)) for index in range(max(shapes) + 1)) for node, shapes in owned.items()
        }


def read(content: bytes) -> Network:
    """Read a checked, simplified ONNX model (``convert.onnx_file.from_onnx``).

    Raises UnsupportedError where a tensor has no elements, a node no name or two the same.
    """
    proto = onnx.load_from_string(content)
    _use_initializers(proto.graph)
    _unshare(proto.graph)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    shapes = _shapes(proto.graph, constants)
    _write_sizes_down(proto.graph, constants, shapes)
    empty = [name for name, shape in shapes.items() if 0 in shape and name not in constants]  # a Resize may read one
    if empty:
        raise UnsupportedError(
            f"The tensor {empty[0]!r} has the shape {list(shapes[empty[0]])}: it holds nothing.",
            "Export the model with the sizes it will run at, or set prune.enabled = false.",
        )
    twice = [name for name, count in Counter(node.name for node in proto.graph.node).items() if count > 1 or not name]
    if twice:
        raise UnsupportedError(f"{len(twice)} nodes of the model share a name, or have none: {twice[0]!r}.")
    return Network(
        proto,
        tuple(_node(node, constants) for node in proto.graph.node),
        constants,
        shapes,
        tuple(value.name for value in proto.graph.input if value.name not in constants),
        tuple(value.name for value in proto.graph.output),
    )


def _node(node: onnx.NodeProto, constants: dict[str, Array]) -> Node:
    attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
    if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in constants:
        attributes.setdefault("kernel_shape", list(constants[node.input[1]].shape[2:]))
    attributes = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    return Node(
        node.name, node.op_type, tuple(node.input), tuple(node.output), attributes, tuple(sorted(_captured(node)))
    )


def _captured(node: onnx.NodeProto) -> set[str]:
    """Return every name that graphs inside a node read, their own tensors included."""
    return {
        name for graph in _graphs_inside(node) for inner in graph.node for name in (*inner.input, *_captured(inner))
    }


def _graphs_inside(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for item in node.attribute:
        if item.HasField("g"):
            yield item.g
        yield from item.graphs


def _use_initializers(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes into initializers, in place."""
    left = []
    for node in graph.node:
        value = next((item for item in node.attribute if item.name == "value"), None)
        if node.op_type == "Constant" and value is not None and node.output[0] not in _results(graph):
            graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(value.t), node.output[0]))
        else:
            left.append(node)
    if len(left) < len(graph.node):
        kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in left]
        del graph.node[:]
        graph.node.extend(kept)


def _results(graph: onnx.GraphProto) -> set[str]:
    return {value.name for value in graph.output}


def _unshare(graph: onnx.GraphProto) -> None:
    """Give every reader of a constant its own copy, in place, but kernels that operators of one kind share."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    inside = {name for node in graph.node for name in _captured(node)} | _results(graph)
    readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in tensors:
                readers.setdefault(name, []).append((node, index))
    for name, found in readers.items():
        alike = len({(node.op_type, index) for node, index in found}) == 1 and found[0][0].op_type in _KERNELS
        if alike and name not in inside:
            continue
        for number, (node, index) in enumerate(found[0 if name in inside else 1 :], 1):
            copied = onnx.TensorProto.FromString(tensors[name].SerializeToString())
            copied.name = f"{name}/reader_{number}"
            graph.initializer.append(copied)
            node.input[index] = copied.name


def _shapes(graph: onnx.GraphProto, constants: dict[str, Array]) -> dict[str, Sizes]:
    shapes: dict[str, Sizes] = {name: array.shape for name, array in constants.items()}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        if kind.HasField("shape"):
            shapes[value.name] = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
    return shapes


def _write_sizes_down(graph: onnx.GraphProto, constants: dict[str, Array], shapes: dict[str, Sizes]) -> None:
    """Make sizes explicit that a Reshape copies (0) and a Split infers, in place."""

    def replace(node: onnx.NodeProto, index: int, array: Array) -> None:
        name = f"{node.name}/sizes"
        while len(node.input) <= index:
            node.input.append("")
        node.input[index] = name
        constants[name], shapes[name] = array, array.shape
        graph.initializer.append(numpy_helper.from_array(array, name))

    for node in graph.node:
        made = [shapes.get(name, ()) for name in node.output]
        if node.op_type == "Reshape" and node.input[1] in constants and None not in made[0]:
            wanted, sizes = constants[node.input[1]].tolist(), list(made[0])
            if 0 in wanted and len(sizes) == len(wanted):
                copied = [size if value == 0 else value for value, size in zip(wanted, sizes, strict=True)]
                replace(node, 1, np.array(copied, np.int64))
        elif node.op_type == "Split" and (len(node.input) < 2 or not node.input[1]) and all(made):
            axis = next((item.i for item in node.attribute if item.name == "axis"), 0)
            sizes = [shape[axis] for shape in made]
            if None not in sizes:
                replace(node, 1, np.array(sizes, np.int64))
                kept = [item for item in node.attribute if item.name != "num_outputs"]
                del node.attribute[:]
                node.attribute.extend(kept)


def written(proto: onnx.ModelProto, constants: dict[str, Array]) -> bytes:
    """Return the model with these constants and all shapes, checked, deterministic; equal constants are stored once.

    Raises UnsupportedError where the shapes of the result contradict each other.
    """
    result = _holding(proto, constants)
    try:
        inferred = onnx.shape_inference.infer_shapes(result, strict_mode=True, data_prop=True)
        onnx.checker.check_model(inferred, full_check=True)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise UnsupportedError(
            f"The cut network's shapes contradict each other: {error}",
            "This is a gap in edgekit's rules for the model's operators; set prune.enabled = false meanwhile.",
        ) from error
    return bytes(inferred.SerializeToString(deterministic=True))


def runnable(proto: onnx.ModelProto, constants: dict[str, Array]) -> bytes:
    """Return the model with other values in its constants, of the shapes they had: to run, not to keep."""
    return bytes(_holding(proto, constants).SerializeToString())


def _holding(proto: onnx.ModelProto, constants: dict[str, Array]) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(proto)
    names: dict[tuple[Any, ...], str] = {}
    renamed: dict[str, str] = {}
    del result.graph.initializer[:], result.graph.value_info[:]
    read_inside = {name for node in result.graph.node for name in _captured(node)} | _results(result.graph)
    for name, array in constants.items():
        same = (array.dtype.str, array.shape, array.tobytes())
        first = name if name in read_inside else names.setdefault(same, name)
        if first == name:
            result.graph.initializer.append(
                numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
            )
        else:
            renamed[name] = first
    for node in result.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    return result


def elements(shape: Sizes) -> int:
    """Count the elements of a tensor; unknown sizes count as 1."""
    return math.prod(size or 1 for size in shape)
