"""Look at named activations of a float or quantized file while it runs, as real numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from ai_edge_litert import interpreter as litert
from ai_edge_litert.tools import flatbuffer_utils

Array = npt.NDArray[Any]
Sample = Mapping[str, Array]
Watch = Callable[[Sample], dict[str, Array]]


def watch(content: bytes, format: str, names: Collection[str]) -> Watch:
    """Return what runs one sample and gives those of the named tensors that the file has; int8 is dequantized.

    The kernels are those that will run the file, as far as the tensors then exist: LiteRT's reference kernels round
    otherwise than XNNPACK, by a tenth of a step on average, which is as much as there is to correct. Raises
    ValueError or RuntimeError for a file or sample that does not run.
    """
    return _WATCHES[format](content, frozenset(names))


def on_grid(values: Array, low: float, high: float, *, symmetric: bool) -> Array:
    """Return the values as 8 bits over a range hold them; ``symmetric``: zero point 0 and -128 .. 127."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max(-low, high) / 127 if symmetric else (high - low) / 255
    if not scale:
        return values
    first = -128.0 if symmetric else np.rint(low / scale)
    result: Array = (np.clip(np.rint(values / scale), first, first + 255) * scale).astype(np.float32)
    return result


def _tflite(content: bytes, names: frozenset[str]) -> Watch:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    main = model.subgraphs[0]
    made = {int(number) for op in main.operators for number in op.outputs} | {int(number) for number in main.inputs}
    kept = {main.tensors[number].name.decode(): number for number in sorted(made)}
    wanted = {name: number for name, number in kept.items() if name in names}
    main.outputs = [*main.outputs, *sorted(set(wanted.values()) - {int(number) for number in main.outputs})]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    interpreter = litert.Interpreter(model_content=bytes(builder.Output()), num_threads=1)
    interpreter.allocate_tensors()
    inputs = [(d["index"], main.tensors[d["index"]]) for d in interpreter.get_input_details()]
    spelled = {entry.tensorIndex: entry.name.decode() for s in model.signatureDefs or () for entry in s.inputs}
    grids = {d["index"]: d["quantization"] for d in interpreter.get_tensor_details()}

    def tensors(sample: Sample) -> dict[str, Array]:
        for index, tensor in inputs:
            interpreter.set_tensor(index, sample[spelled.get(index, tensor.name.decode())])
        interpreter.invoke()
        return {name: _real(interpreter.get_tensor(index), grids[index]) for name, index in wanted.items()}

    return tensors


def _real(values: Array, quantization: tuple[float, int]) -> Array:
    scale, zero = quantization
    if values.dtype.kind == "f" or not scale:
        return values
    result: Array = (values.astype(np.float32) - zero) * np.float32(scale)
    return result


def _onnx(content: bytes, names: frozenset[str]) -> Watch:
    model = onnx.load_from_string(content)
    made = {output for node in model.graph.node for output in node.output}
    inputs = {value.name for value in model.graph.input}
    outputs = {value.name for value in model.graph.output}
    wanted = sorted(names & made)
    for name in wanted:
        if name not in outputs:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def tensors(sample: Sample) -> dict[str, Array]:
        found = dict(zip(wanted, session.run(wanted, dict(sample)), strict=True)) if wanted else {}
        return found | {name: array for name, array in sample.items() if name in names & inputs}

    return tensors


_WATCHES: dict[str, Callable[[bytes, frozenset[str]], Watch]] = {"tflite": _tflite, "onnx": _onnx}
