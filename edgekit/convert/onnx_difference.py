"""Find the first op of an ONNX network that its TFLite form computes otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgekit.convert.onnx_outputs import CHANNELS_FIRST
from edgekit.convert.parity import compare

Array = npt.NDArray[Any]


def first_difference(
    model: Path, converted: Path, given: dict[str, Array], fed: dict[str, Array], correspondence: dict[str, str],
    tolerance: float,
) -> str:  # fmt: skip
    """Return " It begins at ..." for the first tensor that both files hold and that differs; "" if none can be named.

    ``given`` and ``fed``: the same samples as the .onnx and the .tflite take them. The first is looked at.
    """
    theirs = _all_of_tflite(converted, fed)
    before = ""
    for node, name, ours in _all_of_onnx(model, given):
        found = theirs.get(correspondence.get(name, name))
        if found is None:
            continue
        order = CHANNELS_FIRST.get(found.ndim)
        forms = (found, found.transpose(order)) if order else (found,)
        if not any(compare({name: ours}, {name: form}, tolerance).passed for form in forms):
            after = f", which comes after {before}" if before else ""
            return f" It begins at or right before {node.op_type} {node.name or name!r}{after}."
        before = f"{node.op_type} {node.name or name!r}"
    return ""


def _all_of_onnx(model: Path, given: dict[str, Array]) -> Iterator[tuple[onnx.NodeProto, str, Array]]:
    proto = onnx.load(str(model))
    shown = {value.name for value in proto.graph.output}
    names = [(node, name) for node in proto.graph.node for name in node.output if name]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for _, name in names if name not in shown)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    sample = {value.name: given[value.name][:1] for value in session.get_inputs()}
    found = session.run([name for _, name in names], sample)
    yield from ((node, name, np.asarray(array)) for (node, name), array in zip(names, found, strict=True))


def _all_of_tflite(converted: Path, fed: dict[str, Array]) -> dict[str, Array]:
    interpreter = Interpreter(
        model_path=str(converted),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], fed[detail["name"]][:1])
    interpreter.invoke()
    found = {}
    for detail in interpreter.get_tensor_details():
        try:
            found[detail["name"]] = interpreter.get_tensor(detail["index"])
        except ValueError:  # it was optimized away
            continue
    return found
