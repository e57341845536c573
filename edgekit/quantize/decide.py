"""Decide, op by op, what is quantized and what stays float, with the reason.

Decoding stays float because boxes in pixels and scores in 0..1 under one scale leave no scores; everything
before the first weighted op stays float because normalization in int8 would be quantized twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from edgekit.errors import StageError, UnsupportedError
from edgekit.quantize.graph import Graph, Op, read_graph
from edgekit.quantize.kernels import DEFAULT_SCHEME, MOVES, SCHEMES, Scheme
from edgekit.quantize.plan import OpDecision, Plan, Ranges, check_ranges

PRECISIONS = ("float32", "float16", "int8", "int8-weights")
Rule = Callable[[int, Op], tuple[str, str]]


def decide(
    float_path: Path,
    format: str,
    precision: str,
    scheme: str = "",
    ranges: Mapping[str, tuple[float, float]] | None = None,
    *,
    samples: int = 0,
    exclude: Mapping[str, str] | None = None,
    hazards: bool = False,
    activations: str = "",
) -> Plan:
    """Make the plan for a float model.

    ``precision``: int8 or int8-weights (float32 and float16 give a plan that quantizes nothing).
    ``scheme``: see ``kernels.SCHEMES``. ``exclude``: op name -> reason it stays float. ``hazards``: quantize also
    the kinds that often lose too much in int8, for a caller that tries it out. ``activations``: static or dynamic
    instead of what suits the network by rule, likewise.
    Raises StageError when a needed range is missing or not finite, UnsupportedError when nothing in the
    model can be quantized as asked.
    """
    chosen = _scheme(format, scheme)
    if precision not in PRECISIONS:
        raise UnsupportedError(f"no plan can be made for precision '{precision}'", f"Known: {', '.join(PRECISIONS)}.")
    graph = read_graph(float_path, format)
    if hazards:
        chosen = chosen.with_hazards()
    decisions, notes = _decisions(graph, precision, chosen, dict(exclude or {}), activations)
    needed = sorted(_tensors_of(graph, decisions, "int8"))
    kept = _ranges_for(needed, {**(ranges or {}), **_table_ranges(graph)})
    plan = Plan(format, precision, chosen.name, tuple(decisions), kept, samples, tuple(notes))
    if precision.startswith("int8") and set(plan.counts()) == {"float32"}:
        raise UnsupportedError(
            f"{float_path.name} has no op that can be quantized to {precision} for {chosen.name}",
            "Use the float32 or float16 artifact for this target.",
        )
    return plan


def needs_calibration(float_path: Path, format: str, precision: str, scheme: str = "") -> bool:
    """Tell whether the plan for this model will need ranges (dynamic and weight-only plans do not)."""
    graph = read_graph(float_path, format)
    decisions, _ = _decisions(graph, precision, _scheme(format, scheme), {})
    return not _tensors_of(graph, decisions, "int8") <= _table_ranges(graph).keys()


def is_attention(graph: Graph) -> bool:
    """Tell whether the network is built of attention or layer norms: static int8 costs accuracy."""
    kinds = {op.kind for op in graph.ops}
    products = any(op.kind in ("BATCH_MATMUL", "MatMul") and not op.weighted for op in graph.ops)
    layer_norm = "LayerNormalization" in kinds or any(_is_layer_norm_root(graph, op) for op in graph.ops)
    return (products and bool(kinds & {"SOFTMAX", "Softmax"})) or layer_norm


def tail(graph: Graph) -> frozenset[int]:
    """Return the positions of unweighted ops that reach no weighted op: the output decoding."""
    reaching = _reaching_weights(graph, reversed(range(len(graph.ops))), graph.after)
    return frozenset(i for i, op in enumerate(graph.ops) if not op.weighted and i not in reaching)


def prologue(graph: Graph) -> frozenset[int]:
    """Return the positions of ops before the first weighted op, up to the last one that computes."""
    fed = _reaching_weights(graph, range(len(graph.ops)), graph.before)
    early = {i for i, op in enumerate(graph.ops) if not op.weighted and i not in fed}
    computing: set[int] = set()
    for i in sorted(early, reverse=True):
        if graph.ops[i].kind not in MOVES or any(j in computing for j in graph.after(i)):
            computing.add(i)
    return frozenset(computing)


def _decisions(
    graph: Graph, precision: str, scheme: Scheme, exclude: dict[str, str], activations: str = ""
) -> tuple[list[OpDecision], list[str]]:
    unknown = sorted(set(exclude) - {op.name for op in graph.ops})
    if unknown:
        raise StageError(f"the model has no op named {', '.join(unknown)}")
    rule, notes = _rule(graph, precision, scheme, activations)
    if scheme.int8_tables and precision.startswith("int8"):
        rule = _tables_rule(graph, rule)
    found = []
    for position, op in enumerate(graph.ops):
        chosen = ("float32", exclude[op.name]) if op.name in exclude else rule(position, op)
        found.append(OpDecision(op.name, op.kind, *chosen))
    return _with_followers(graph, found, scheme, exclude), notes


def _with_followers(
    graph: Graph, decisions: list[OpDecision], scheme: Scheme, exclude: dict[str, str]
) -> list[OpDecision]:
    """Make ops of the kinds that follow their readers int8 where all readers are; their own input is then int8 too."""
    precision = {decision.op: decision.precision for decision in decisions}
    found = list(decisions)
    for position, op in enumerate(graph.ops):
        readers = [graph.ops[i].name for i in graph.after(position)]
        if op.kind not in scheme.follows or op.name in exclude or op.name in graph.outputs or not readers:
            continue
        if all(precision[name] == "int8" for name in readers):
            found[position] = OpDecision(op.name, op.kind, "int8", "")
    return found


def _rule(graph: Graph, precision: str, scheme: Scheme, activations: str) -> tuple[Rule, list[str]]:
    if precision == "int8-weights":
        return _weights_rule(scheme), []
    if precision != "int8":
        return (lambda position, op: ("float32", "")), []
    attention = is_attention(graph)
    if activations == "dynamic" or (attention and scheme.dynamic and not activations):
        kind = "attention network" if attention else "dynamic int8"
        asked = bool(activations) or scheme.unpacks_once
        rule = _weights_rule(scheme) if asked else _dynamic_rule(graph, scheme)
        return rule, [f"{kind}: int8 weights, activations quantized while running"]
    if not attention:
        return _static_rule(graph, scheme), []
    lacks = "" if scheme.dynamic else f"{scheme.name} has no dynamic int8, so "
    return _weighted_only(_static_rule(graph, scheme)), [f"attention network: {lacks}only ops with weights are int8"]


def _static_rule(graph: Graph, scheme: Scheme) -> Rule:
    decoding, normalizing = tail(graph), prologue(graph)

    def rule(position: int, op: Op) -> tuple[str, str]:
        if position in decoding:
            return "float32", "output decoding"
        if position in normalizing:
            return "float32", "input normalization"
        if op.kind in scheme.refused:
            return "float32", scheme.refused[op.kind]
        if op.kind not in scheme.int8 or not op.is_float:
            return "float32", "no int8 kernel" if op.is_float else "not a float op"
        if any(graph.is_dead(tensor) for tensor in op.outputs):
            return "float32", "an output nobody reads: XNNPACK refuses the op in int8"
        return "int8", ""

    return rule


def _weighted_only(rule: Rule) -> Rule:
    def narrowed(position: int, op: Op) -> tuple[str, str]:
        return rule(position, op) if op.weighted else ("float32", "no weights")

    return narrowed


def _tables_rule(graph: Graph, rule: Rule) -> Rule:
    """Store embeddings in int8: the rows read have the table's own range, so nothing needs calibrating."""

    def widened(position: int, op: Op) -> tuple[str, str]:
        return rule(position, op) if graph.table_of(op) is None else ("int8", "")

    return widened


def _dynamic_rule(graph: Graph, scheme: Scheme) -> Rule:
    """Let convolutions be static where they have no dynamic kernel and weights are unpacked at every call.

    With int8 weights alone such a convolution is slower than float: all of magika's time but a tenth is in one.
    """
    dynamic, static = _weights_rule(scheme), _static_rule(graph, scheme)

    def rule(position: int, op: Op) -> tuple[str, str]:
        found = dynamic(position, op)
        if op.kind != "Conv" or found[0] != "int8-weights":
            return found
        return static(position, op) if static(position, op)[0] == "int8" else found

    return rule


def _weights_rule(scheme: Scheme) -> Rule:
    def rule(position: int, op: Op) -> tuple[str, str]:
        if not op.weighted or not op.is_float:
            return "float32", "no weights"
        if op.kind in scheme.dynamic:
            return "int8-dynamic", ""
        return "int8-weights", "no fast kernel that quantizes activations while running"

    return rule


def _scheme(format: str, scheme: str) -> Scheme:
    name = scheme or DEFAULT_SCHEME.get(format, "")
    if name not in SCHEMES or SCHEMES[name].format != format:
        known = ", ".join(key for key, value in SCHEMES.items() if value.format == format) or "none"
        raise UnsupportedError(f"there is no quantization scheme '{name}' for {format}", f"Known: {known}.")
    return SCHEMES[name]


def _tensors_of(graph: Graph, decisions: Iterable[OpDecision], precision: str) -> set[str]:
    """Return the float activations that ops of one precision read or write."""
    chosen = {decision.op for decision in decisions if decision.precision == precision}
    touched = {name for op in graph.ops if op.name in chosen for name in (*op.inputs, *op.outputs)}
    return touched & graph.floats


def _table_ranges(graph: Graph) -> Ranges:
    """Return the ranges of what lookups read: those of their tables."""
    tables = ((op, graph.table_of(op)) for op in graph.ops)
    return {op.name: bounds for op, bounds in tables if bounds is not None}


def _ranges_for(needed: list[str], ranges: Ranges) -> Ranges:
    missing = [name for name in needed if name not in ranges]
    if missing:
        raise StageError(
            f"no range is known for tensor '{missing[0]}' ({len(missing)} of {len(needed)} missing)",
            "Calibrate the same float model that is being quantized.",
        )
    kept = {name: ranges[name] for name in needed}
    check_ranges(kept)
    return kept


def _reaching_weights(graph: Graph, order: Iterable[int], neighbours: Callable[[int], Iterable[int]]) -> set[int]:
    """Return the positions with a weighted op among all neighbours; ``order`` visits those first."""
    found: set[int] = set()
    for i in order:
        if any(j in found or graph.ops[j].weighted for j in neighbours(i)):
            found.add(i)
    return found


def _is_layer_norm_root(graph: Graph, op: Op) -> bool:
    """Recognize the square root of an activation's variance."""
    return op.kind in ("RSQRT", "Sqrt", "SQRT") and not set(op.inputs) <= graph.constants
