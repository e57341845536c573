"""Find, for every tensor of the float model, the tensor of the artifact that stands for it.

By name first; what has none is matched by its place among ops of the same kinds, because converters rename.
"""

from __future__ import annotations

from difflib import SequenceMatcher

from edgekit.diagnose.quantized_file import CONVERSIONS, QuantizedFile
from edgekit.quantize.graph import Graph, Op

# Activations that quantizers fold into the op before them, by letting its range begin at 0 (or end at 6).
_FOLDED = frozenset({"Relu", "Clip", "RELU", "RELU6", "RELU_N1_TO_1"})
_INTEGER_TWIN = "_quantized"  # onnxruntime's name for what an operator on integers makes


def match(float_graph: Graph, artifact: QuantizedFile) -> dict[str, str]:
    """Map names of float activations, in graph order, to names in the artifact."""
    found = dict(zip(float_graph.inputs, artifact.graph.inputs, strict=False))
    known = _tensors(artifact.graph)
    for op in float_graph.ops:
        for name in op.outputs:
            other = next((each for each in (name, f"{name}{_INTEGER_TWIN}") if each in known), None)
            # Converters number equal names: what an op makes in one file may be a constant in the other.
            if other is not None and name in float_graph.floats and artifact.maker(other) is not None:
                found[name] = other
    _fold_activations(float_graph, artifact, found)
    _match_by_place(float_graph, artifact.graph, found)
    for name, other in zip(float_graph.outputs, artifact.graph.outputs, strict=False):
        found.setdefault(name, other)
    order = [*float_graph.inputs, *(name for op in float_graph.ops for name in op.outputs)]
    return {name: found[name] for name in order if name in found and name in float_graph.floats}


def value_of(artifact: QuantizedFile, tensor: str) -> str:
    """Return the tensor whose values are what readers of ``tensor`` see: after its Q/DQ pair, if it has one."""
    for position in artifact.graph.consumers.get(tensor, ()):
        op = artifact.graph.ops[position]
        if op.kind in ("QUANTIZE", "QuantizeLinear"):
            for following in artifact.graph.consumers.get(op.outputs[0], ()):
                if artifact.graph.ops[following].kind == "DequantizeLinear":
                    return artifact.graph.ops[following].outputs[0]
            return op.outputs[0]
    return tensor


def _fold_activations(graph: Graph, artifact: QuantizedFile, found: dict[str, str]) -> None:
    for op in graph.ops:
        if op.kind in _FOLDED and op.outputs[0] not in found and op.inputs[0] in found:
            found[op.outputs[0]] = found.pop(op.inputs[0])
        elif op.kind in _FOLDED and op.inputs[0] in found and op.outputs[0] in found:
            _unfold(op, artifact, found)


def _unfold(op: Op, artifact: QuantizedFile, found: dict[str, str]) -> None:
    """Drop the tensor in front of an activation that the artifact no longer computes by itself."""
    maker = artifact.maker(found[op.outputs[0]])
    if maker is not None and maker.kind != op.kind and found[op.inputs[0]] != found[op.outputs[0]]:
        del found[op.inputs[0]]


def _match_by_place(graph: Graph, other: Graph, found: dict[str, str]) -> None:
    left = [op for op in graph.ops if op.is_float]
    right = [op for op in other.ops if op.kind not in CONVERSIONS and op.outputs]
    taken = set(found.values())
    matcher = SequenceMatcher(
        None, [op.kind for op in left], [op.kind.removeprefix("QLinear") for op in right], autojunk=False
    )
    for block in matcher.get_matching_blocks():
        for offset in range(block.size):
            a, b = left[block.a + offset].outputs[0], right[block.b + offset].outputs[0]
            if a not in found and b not in taken:
                found[a] = b
                taken.add(b)


def _tensors(graph: Graph) -> set[str]:
    return {*graph.inputs, *(name for op in graph.ops for name in op.outputs)}
