"""Emit a quantized .onnx from a float one and a plan: explicit Q/DQ pairs with the plan's ranges.

tensorrt: symmetric int8 everywhere, zero points 0, float bias, outputs of the last weighted ops left float.
cpu: uint8 activations and int8 weights, which x86 runs twice as fast as signed activations; hard gates as an addition.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantizationMode

from edgekit.convert.onnx_gates import spell_hard_gates
from edgekit.convert.onnx_names import sort_nodes
from edgekit.errors import StageError, UnsupportedError
from edgekit.quantize.plan import Plan

_STEPS = 127  # symmetric int8 keeps clear of -128: TensorRT's weights are -127..127
_CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1, "MatMul": -1}


def emit(float_onnx: bytes, plan: Plan) -> bytes:
    """Apply the plan to a float .onnx; inputs and outputs of the model stay float32. Deterministic bytes.

    Raises StageError when the plan is of another model or format, UnsupportedError for a precision only LiteRT has.
    """
    if plan.format != "onnx":
        raise StageError(f"this plan is for {plan.format}, not onnx")
    proto = onnx.load_from_string(float_onnx)
    names = _name_nodes(proto)
    unknown = sorted({decision.op for decision in plan.decisions} - names)
    if unknown:
        raise StageError(
            f"the plan names ops this model does not have: {', '.join(unknown[:3])}",
            "Make the plan from the same float model.",
        )
    if foreign := (*plan.ops("int16x8"), *plan.ops("int4-dynamic")):
        raise UnsupportedError(f"op '{foreign[0]}' cannot have this precision: ONNX Runtime has no kernel for it")
    if weights := plan.ops("int8-weights"):
        _weights_only(proto, set(weights))
    if dynamic := plan.ops("int8-dynamic"):
        proto = _dynamic(proto, dynamic)
    if static := plan.ops("int8"):
        proto = _static(proto, static, plan)
    if plan.scheme == "cpu":
        spell_hard_gates(proto)
    sort_nodes(proto)
    _part_names(proto)
    proto.producer_name, proto.producer_version = "edgekit", ""
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))


def _name_nodes(proto: onnx.ModelProto) -> set[str]:
    """Name every node after its first output, as plans do."""
    for node in proto.graph.node:
        node.name = node.output[0]
    return {node.name for node in proto.graph.node}


def _part_names(proto: onnx.ModelProto) -> None:
    """Number nodes of the same name: the static and the dynamic quantizer both name theirs by tensor."""
    taken: set[str] = set()
    for node in proto.graph.node:
        name, count = node.name, 1
        while node.name in taken:
            count += 1
            node.name = f"{name}_{count}"
        taken.add(node.name)


def _static(proto: onnx.ModelProto, ops: tuple[str, ...], plan: Plan) -> onnx.ModelProto:
    symmetric = plan.scheme == "tensorrt"
    chosen = set(ops)
    kinds = sorted({node.op_type for node in proto.graph.node if node.name in chosen})
    quiet = _float_ends(proto, chosen) if symmetric else frozenset()
    worker = QDQQuantizer(
        onnx.shape_inference.infer_shapes(proto),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        tensors_range=_statistics(plan),
        nodes_to_quantize=list(ops),
        nodes_to_exclude=[],
        op_types_to_quantize=kinds,
        extra_options={
            "ActivationSymmetric": symmetric,
            "WeightSymmetric": True,
            "QuantizeBias": not symmetric,
            "MatMulConstBOnly": True,
            "QDQDisableWeightAdjustForInt32Bias": symmetric,  # its bias stays float
        },
    )
    quantized: onnx.ModelProto = worker.quantize_model()
    for tensor in sorted(quiet):
        _remove_pair(quantized, tensor)
    return quantized


def _statistics(plan: Plan) -> TensorsData:
    return TensorsData(
        CalibrationMethod.MinMax,
        {name: (np.float32(low), np.float32(high)) for name, (low, high) in plan.ranges.items()},
    )


def _float_ends(proto: onnx.ModelProto, chosen: set[str]) -> frozenset[str]:
    """Find outputs of quantized ops that only float ops (or nobody) read: their Q/DQ pair only loses bits."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return frozenset(
        output
        for node in proto.graph.node
        if node.name in chosen
        for output in node.output
        if not any(reader.name in chosen for reader in readers.get(output, ()))
    )


def _remove_pair(proto: onnx.ModelProto, tensor: str) -> None:
    """Take out the Q/DQ pair on one tensor, whichever way it was put in (graph outputs keep their name)."""
    nodes = proto.graph.node
    pushed = next(
        (
            n
            for n in nodes
            if n.op_type == "QuantizeLinear" and n.input[0].removesuffix("_QuantizeLinear_Input") == tensor
        ),
        None,
    )
    if pushed is None:
        return
    pulled = next(n for n in nodes if n.op_type == "DequantizeLinear" and n.input[0] == pushed.output[0])
    source, sink = pushed.input[0], pulled.output[0]
    nodes.remove(pushed)
    nodes.remove(pulled)
    outputs = {value.name for value in proto.graph.output}
    old, new = (source, sink) if sink in outputs else (sink, source)
    for node in nodes:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def _dynamic(proto: onnx.ModelProto, ops: tuple[str, ...]) -> onnx.ModelProto:
    """Quantize activations while running (DynamicQuantizeLinear + MatMulInteger), weights per channel."""
    worker = ONNXQuantizer(
        onnx.shape_inference.infer_shapes(proto),
        per_channel=True,
        reduce_range=False,
        mode=QuantizationMode.IntegerOps,
        static=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=None,
        nodes_to_quantize=list(ops),
        nodes_to_exclude=[],
        op_types_to_quantize=["MatMul"],
        extra_options={"MatMulConstBOnly": True, "WeightSymmetric": True},
    )
    worker.quantize_model()
    quantized: onnx.ModelProto = worker.model.model
    return quantized


def _weights_only(proto: onnx.ModelProto, ops: set[str]) -> None:
    """Store weights as int8 per output channel with a DequantizeLinear in front of the float op, in place."""
    initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
    done: dict[str, str] = {}
    added: list[onnx.NodeProto] = []
    for node in proto.graph.node:
        if node.name not in ops:
            continue
        name = node.input[1]
        if name not in done:
            weight = onnx.numpy_helper.to_array(initializers[name])
            axis = _axis(node, weight.ndim)
            codes, scales = _per_channel(weight, axis)
            proto.graph.initializer.remove(initializers[name])
            proto.graph.initializer.extend(
                [
                    onnx.numpy_helper.from_array(codes, f"{name}_int8"),
                    onnx.numpy_helper.from_array(scales, f"{name}_scale"),
                ]
            )
            added.append(
                onnx.helper.make_node(
                    "DequantizeLinear", [f"{name}_int8", f"{name}_scale"], [name], f"{name}_float", axis=axis
                )
            )
            done[name] = name
    proto.graph.node.extend(added)


def _axis(node: onnx.NodeProto, rank: int) -> int:
    transposed = any(a.name == "transB" and a.i for a in node.attribute)
    return 0 if transposed else _CHANNEL_AXIS[node.op_type] % rank


def _per_channel(weight: npt.NDArray[Any], axis: int) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    others = tuple(i for i in range(weight.ndim) if i != axis)
    peaks = np.abs(weight).max(axis=others, keepdims=True)
    scales = np.where(peaks > 0, peaks / _STEPS, 1.0).astype(np.float32)
    codes = np.clip(np.rint(weight / scales), -_STEPS, _STEPS).astype(np.int8)
    return codes, scales.reshape(-1)
