"""The channel graph of an ONNX model: follow every channel from node to node.

Layers are nodes, known by name; a weight is a constant input of one. What no rule covers is frozen, with its reason.
"""

from __future__ import annotations

from edgekit.prune.channels.graph import ChannelGraph
from edgekit.prune.channels.numbering import numbered
from edgekit.prune.channels.recorder import Flow, Recorder
from edgekit.prune.onnx import rules_elementwise, rules_linear, rules_movement
from edgekit.prune.onnx.call import NodeCall, NodeRule, default_axis, opaque
from edgekit.prune.onnx.network import Network, Node

RULES: dict[str, NodeRule] = {**rules_elementwise.RULES, **rules_linear.RULES, **rules_movement.RULES}


def analyze(network: Network) -> ChannelGraph:
    """Find the prunable units of an ONNX model. What no rule covers is frozen, never guessed."""
    recorder = Recorder()
    flows: dict[str, Flow] = {}
    for name in network.inputs:
        shape = network.shapes.get(name, ())
        axis = default_axis(shape)
        flows[name] = Flow(shape, recorder.channels.fresh((shape[axis] or 0) if shape else 0), axis)
        recorder.channels.freeze(flows[name].ids, "is a model input")
    for node in network.nodes:
        first = len(recorder.macs)
        inputs = tuple(flows.get(name) for name in node.inputs)
        made = _follow(recorder, network, node, inputs, flows)
        flows.update(zip(node.outputs, made, strict=True))
        given = [flow for flow in inputs if flow is not None]
        recorder.calls.append((node.name, node, given, made, range(first, len(recorder.macs))))
    for name in network.outputs:
        if name in flows:
            recorder.channels.freeze(flows[name].ids, f"is the model output '{name}'")
    return numbered(recorder, network.weight_shapes())


def _follow(
    recorder: Recorder, network: Network, node: Node, inputs: tuple[Flow | None, ...], flows: dict[str, Flow]
) -> list[Flow]:
    for name in node.captured:
        if name in flows:
            recorder.channels.freeze(flows[name].ids, f"is read inside '{node.name}'")
    shapes = tuple(network.shapes.get(name, ()) for name in node.outputs)
    call = NodeCall(recorder, network, node, inputs, shapes)
    if not call.flows or node.op not in RULES:
        return opaque(call, f"{node.op} has no pruning rule" if call.flows else "it reads nothing that is computed")
    unknown = [name for name in (*node.inputs, *node.outputs) if name and name not in network.shapes]
    if unknown:
        return opaque(call, f"the shape of {unknown[0]!r} is unknown")
    if any(not flow.shape for flow in call.flows):  # a single number has no channels
        return opaque(call, "it reads a single number")
    return RULES[node.op](call)
