"""Which inputs of an ONNX network are images in its channels-first order: TFLite takes those channels last."""

from __future__ import annotations

from collections import defaultdict

import onnx

# ONNX has them read (N, C, H, W), whatever made the file.
_SPATIAL_NAMES = """
    Conv ConvTranspose ConvInteger MaxPool AveragePool LpPool GlobalAveragePool GlobalMaxPool BatchNormalization
    InstanceNormalization GroupNormalization LRN Resize Upsample DepthToSpace SpaceToDepth
    """
# These leave every axis where it is.
_PASSING_NAMES = """
    Identity Cast Relu LeakyRelu PRelu Clip Sigmoid Tanh HardSwish Add Sub Mul Div Pow Neg Abs Sqrt Exp Log Min Max
    Floor Round Dropout Pad Concat Slice Split
    """
_SPATIAL, _PASSING = frozenset(_SPATIAL_NAMES.split()), frozenset(_PASSING_NAMES.split())
TO_NHWC = (0, 2, 3, 1)
Shape = tuple[int, ...]


def images(proto: onnx.ModelProto) -> dict[str, Shape]:
    """Return the inputs that become NHWC, each with its shape (1, H, W, C) there.

    An input counts as an image where all that reads it takes it as (N, C, H, W). A cube stays as it is: nobody could
    tell its two layouts apart by their shapes.
    """
    constants = {tensor.name for tensor in proto.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in proto.graph.node:
        for name in node.input:
            readers[name].append(node)
    outputs = {value.name for value in proto.graph.output}
    found = {}
    for value in proto.graph.input:
        dims = value.type.tensor_type.shape.dim
        shape = tuple(int(dim.dim_value) or (axis == 0) for axis, dim in enumerate(dims))  # an open batch becomes 1
        if value.name in constants or len(shape) != 4 or min(shape) < 1 or not _is_image(value.name, readers, outputs):
            continue
        there = tuple(shape[axis] for axis in TO_NHWC)
        if there != shape:
            found[value.name] = there
    return found


def _is_image(name: str, readers: dict[str, list[onnx.NodeProto]], outputs: set[str]) -> bool:
    waiting, seen, spatial = [name], {name}, False
    while waiting:
        tensor = waiting.pop()
        if tensor in outputs:
            return False
        for node in readers[tensor]:
            if node.op_type in _SPATIAL and node.input[0] == tensor:
                spatial = True
            elif node.op_type in _PASSING:
                fresh = [output for output in node.output if output not in seen]
                seen.update(fresh)
                waiting += fresh
            else:
                return False
    return spatial
