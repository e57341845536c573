"""Operators that treat every channel alone, or join tensors channel by channel."""

from __future__ import annotations

from edgekit.prune.channels.coupling import IntArray
from edgekit.prune.channels.recorder import Flow, Shape
from edgekit.prune.onnx.call import NodeCall, NodeRule, default_axis, opaque, passes


def couples(call: NodeCall) -> list[Flow]:
    """Couple the operands of an element-wise operator channel by channel, constants included."""
    target = call.output_shapes[0]
    axis = _axis(call, target)
    if axis is None:
        return opaque(call, "operands with channels along different axes, or of different widths")
    wide = target[axis]
    ids: IntArray | None = None
    for index, flow in enumerate(call.inputs):
        if flow is None:
            continue
        if _size(flow.shape, axis) == wide:
            found = call.along(index, axis)
            if ids is None:
                ids = found
            call.recorder.channels.couple(ids, found)
        else:
            call.freeze(flow.ids, f"is broadcast over the channels of '{call.key}'")
    assert ids is not None
    for index in range(len(call.inputs)):
        values = call.constant(index)
        if values is not None and _size(values.shape, axis) == len(ids) > 1:
            call.weight(index, values.ndim + axis, "through", ids)
    return [Flow(shape, ids, axis) for shape in call.output_shapes]


def _axis(call: NodeCall, target: Shape) -> int | None:
    """Return the axis of the channels: that of the operands which may be cut, if it is one."""
    wide = [flow for flow in call.flows if target[flow.axis :] and _size(target, flow.axis) == len(flow.ids)]
    live = {flow.axis for flow in wide if len(flow.ids) > 1 and call.is_live(flow)}
    if len(live) > 1 or not wide:
        return None
    if live:
        return live.pop()
    axes = {flow.axis for flow in wide}
    return axes.pop() if len(axes) == 1 else default_axis(target) if _fits(call, target) else None


def _fits(call: NodeCall, target: Shape) -> bool:
    axis = default_axis(target)
    return any(_size(flow.shape, axis) == target[axis] for flow in call.flows)


def _size(shape: Shape, axis: int) -> int | None:
    return shape[axis] if len(shape) >= -axis else 1


def _reduced(call: NodeCall) -> list[Flow]:
    """Pass channels through an operator over some axes, which may vanish, unless theirs is one."""
    source = call.inputs[0]
    if source is None or call.computed(1):
        return opaque(call, "its axes are computed")
    rank, given = len(source.shape), call.constant(1)
    axes = given.tolist() if given is not None else call.attribute("axes", call.attribute("axis"))
    if axes is None:
        axes = [] if call.attribute("noop_with_empty_axes", 0) else list(range(rank))
    gone = {axis % rank for axis in ([axes] if isinstance(axes, int) else axes)}
    if rank + source.axis in gone:
        return opaque(call, f"{call.node.op} works across channels")
    kept = bool(call.attribute("keepdims", 1))
    behind = 0 if kept else sum(axis > rank + source.axis for axis in gone)
    return [Flow(shape, source.ids, source.axis + behind) for shape in call.output_shapes]


def _along_one_axis(call: NodeCall) -> list[Flow]:
    """Pass channels through an operator along one axis (softmax, cumulative sum), unless it is theirs."""
    source, given = call.inputs[0], call.constant(1)
    if source is None or call.computed(1):
        return opaque(call, "its axis is computed")
    axis = int(given.item()) if given is not None else int(call.attribute("axis", -1))
    if axis % len(source.shape) == len(source.shape) + source.axis:
        return opaque(call, f"{call.node.op} works across channels")
    return passes(call)


def _over_space(call: NodeCall) -> list[Flow]:
    """Pass channels through an operator that knows space from channels by the place of the axis."""
    source = call.inputs[0]
    if source is None:
        return opaque(call, "reads a constant")
    axis = 1 - len(source.shape)
    ids = call.along(0, axis)
    for flow in call.flows[1:]:
        call.freeze(flow.ids, f"says where '{call.key}' reads")
    return [Flow(shape, ids, axis) for shape in call.output_shapes]


_POINTWISE = """
Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor Gelu HardSigmoid
HardSwish Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh
Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu
"""
_COUPLING = """
Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or PRelu Pow Sub Sum Where Xor
"""
_REDUCING = """
ArgMax ArgMin ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare
"""
_SPATIAL = """
AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool GridSample LpPool MaxPool
"""

RULES: dict[str, NodeRule] = {
    **dict.fromkeys(_POINTWISE.split(), passes),
    **dict.fromkeys(_COUPLING.split(), couples),
    **dict.fromkeys(_REDUCING.split(), _reduced),
    **dict.fromkeys(_SPATIAL.split(), _over_space),
    **dict.fromkeys(["Softmax", "LogSoftmax", "Hardmax", "CumSum", "LpNormalization"], _along_one_axis),
}
