"""Read an ONNX file as a network: shapes inferred, weights counted, nothing loaded from beside it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx.shape_inference import InferenceError

from edgekit.convert.onnx_layout import images
from edgekit.inspection.network import Network, Op, Shape, Tensor, bits, elements, image_layout, times
from edgekit.source.onnx_file import QUANTIZED, dim_size, dtype_name, is_integer_weight

_SPATIAL = {"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "BatchNormalization", "Resize"}
_RECURRENT = {"LSTM": 4, "GRU": 3, "RNN": 1}
_FLOATS = {"float32", "float16", "bfloat16", "float64", "int8", "uint8", "int4", "uint4"}
_SHOWN = 1024  # bytes of weights up to which their values may decide a shape
_VALUES = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def read(path: Path) -> Network:
    """Return the network of a checked `.onnx` file (``edgekit.source.inspect`` refuses damaged ones)."""
    model = onnx.load(str(path), load_external_data=False)
    inner = [g for node in model.graph.node for a in node.attribute if a.HasField("g") for g in [a.g]]
    weights = _weights([model.graph, *inner])
    parameters = sum(math.prod(shape) for shape, dtype in weights.values() if dtype in _FLOATS)
    weight_bytes = sum(math.prod(shape) * bits(dtype) // 8 for shape, dtype in weights.values())
    notes = _infer(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    typed = {v.name: _tensor(v) for v in (*model.graph.value_info, *model.graph.output, *model.graph.input)}
    tensors = {name: tensor for name, tensor in typed.items() if name not in constants}
    shapes: dict[str, Any] = {name: shape for name, (shape, _) in weights.items()}
    shapes |= {name: tensor.shape for name, tensor in tensors.items()}
    ops = tuple(
        Op(
            node.op_type,
            node.name or (node.output[0] if node.output else node.op_type),
            tuple(name for name in node.input if name and name not in constants),
            tuple(name for name in node.output if name),
            _macs(node, shapes),
        )
        for node in model.graph.node
        if node.op_type != "Constant"
    )
    quantized = sorted({op.kind for op in ops} & QUANTIZED)
    if not quantized and any(map(is_integer_weight, model.graph.initializer)):
        quantized = ["int8 weights"]
    return Network(
        tuple(_with_layout(_tensor(v), model) for v in model.graph.input if v.name not in constants),
        tuple(tensors[value.name] for value in model.graph.output),
        ops,
        tensors,
        parameters,
        weight_bytes,
        f"holds {', '.join(quantized)}" if quantized else "",
        f"opset {next((e.version for e in model.opset_import if e.domain in ('', 'ai.onnx')), 0)}",
        tuple(sorted({f"{n.domain}.{n.op_type}" for n in model.graph.node if n.domain not in ("", "ai.onnx")})),
        notes,
        images(model),
    )


def _infer(model: onnx.ModelProto) -> tuple[str, ...]:
    """Add the shapes of all activations, in place; the weights' own numbers go, so that none are copied around."""
    for tensor in model.graph.initializer:
        if _is_large(tensor):
            for values in _VALUES:
                tensor.ClearField(values)
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    known = {value.name for value in bare.graph.input}
    for tensor in bare.graph.initializer:
        if _is_large(tensor) and tensor.name not in known:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            bare.graph.input.append(value)
    kept = [tensor for tensor in bare.graph.initializer if not _is_large(tensor)]
    del bare.graph.initializer[:]
    bare.graph.initializer.extend(kept)
    try:
        inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    except (InferenceError, DecodeError, ValueError, RuntimeError) as error:
        return (f"shapes inside are unknown: {str(error).splitlines()[0][:120]}",)
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred.graph.value_info)
    for declared, found in zip(model.graph.output, inferred.graph.output, strict=False):
        declared.CopyFrom(found)
    return ()


def _is_large(tensor: onnx.TensorProto) -> bool:
    return bool(math.prod(tensor.dims) * 4 > _SHOWN)


def _weights(graphs: list[onnx.GraphProto]) -> dict[str, tuple[tuple[int, ...], str]]:
    found = {}
    for graph in graphs:
        for tensor in graph.initializer:
            found[tensor.name] = (tuple(tensor.dims), dtype_name(tensor.data_type))
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.HasField("t") and node.output:
                    kind = dtype_name(attribute.t.data_type)
                    found[node.output[0]] = (tuple(attribute.t.dims), kind)
    return found


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type.tensor_type
    shape: Shape | None = None
    if kind.HasField("shape"):
        shape = tuple(dim_size(dim) for dim in kind.shape.dim)
    return Tensor(value.name, shape, dtype_name(kind.elem_type))


def _with_layout(tensor: Tensor, model: onnx.ModelProto) -> Tensor:
    """Convolutions read NCHW; a Transpose in front of them tells what comes in."""
    if tensor.shape is None or len(tensor.shape) != 4:
        return tensor
    name, layout = tensor.name, ""
    for node in model.graph.node:
        if name not in node.input:
            continue
        if node.op_type == "Transpose":
            order = next((list(a.ints) for a in node.attribute if a.name == "perm"), [])
            layout = "NHWC" if order == [0, 3, 1, 2] else ""
            break
        if node.op_type in _SPATIAL:
            layout = "NCHW"
            break
        if node.op_type in ("Sub", "Mul", "Div", "Add", "Cast", "Pad") and node.output:
            name = node.output[0]
    return Tensor(tensor.name, tensor.shape, tensor.dtype, layout or image_layout(tensor.shape))


def _macs(node: onnx.NodeProto, shapes: dict[str, Any]) -> int | None:
    kind, sources = node.op_type, list(node.input)
    result = elements(shapes.get(node.output[0])) if node.output else None
    if kind in ("Conv", "QLinearConv", "ConvInteger"):
        weight = shapes.get(sources[3 if kind == "QLinearConv" else 1])
        return times(result, *weight[1:]) if weight else None
    if kind == "ConvTranspose":
        weight = shapes.get(sources[1])
        return times(elements(shapes.get(sources[0])), *weight[1:]) if weight else None
    if kind in ("Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"):
        left = shapes.get(sources[0])
        flipped = kind == "Gemm" and any(a.name == "transA" and a.i for a in node.attribute)
        return times(result, left[0 if flipped else -1]) if left else None
    if kind in _RECURRENT:
        entry, weight, again = (shapes.get(name) for name in sources[:3])
        if not (entry and weight and again):
            return None
        return times(entry[0], weight[0], weight[1], weight[2] + again[2])
    return None if kind in ("Einsum", "If", "Loop", "Scan", "Attention") else 0
