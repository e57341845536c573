"""What each target would make of a network, before any work: refused and why, or which ops stay float there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from edgekit.convert.lint import OLDEST_OPSET, OLDEST_READ, lint
from edgekit.convert.onnx_tflite_ops import CONVERTED
from edgekit.inspection.keras_ops import becomes
from edgekit.inspection.network import Network
from edgekit.inspection.op_support import HELP, Missing
from edgekit.quantize.kernels import DEFAULT_SCHEME, MOVES, SCHEMES
from edgekit.source import SourceInfo
from edgekit.source.info import Input
from edgekit.source.shapes import is_open, option, refusal
from edgekit.target import Output, Target

_SAME_FORMAT_ONLY = {
    "onnx": ("tflite", "no TFLite from an ONNX model that is quantized already: give the float model"),
    "tflite": ("onnx", "no ONNX from a TFLite model: give the model it was converted from"),
}
FORMAT_REASONS = frozenset(why for _, why in _SAME_FORMAT_ONLY.values())
# The build repairs these itself: it sets the batch to 1 and takes the weights inside.
_REPAIRED = {"static_shapes", "no_external_data", "size_bytes"}
_NAMES = {"tflite": "TFLite", "onnx": "ONNX"}
_OUTSIDE = "write it with other ops, or compute it outside the network"
_FLOAT_IN_EVERY_SCHEME = {"Constant", "Shape", "QuantizeLinear", "DequantizeLinear", "InputLayer", "Dropout"}


@dataclass(frozen=True)
class Answer:
    """What one target makes of one format. ``refused``: one sentence for each op or input that cannot go there.

    ``float_ops``: how many ops of each kind stay float32 beside int8 ones, and ``reasons`` for some of them.
    ``layouts``: the inputs that its file takes in another layout, as [the model's, the file's].
    """

    target: str
    format: str
    precision: str
    refused: tuple[str, ...]
    float_ops: dict[str, int]
    reasons: dict[str, str]
    layouts: dict[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def takes(self) -> bool:
        return not self.refused


def answers(
    info: SourceInfo, network: Network, targets: list[Target], missing: Mapping[str, Missing]
) -> tuple[Answer, ...]:
    """Return an answer for each target and each format that it takes, first choice first.

    ``missing``: what the converters said, by format; empty where the ops alone tell.
    """
    found = []
    for target in targets:
        first = {output.format: output for output in reversed(target.outputs)}
        for format in dict.fromkeys(output.format for output in target.outputs):
            refused = tuple(_refused(info, network, target, format, missing))
            kept = {} if refused else _float_ops(info, network, first[format])
            reasons = SCHEMES[_scheme(first[format])].refused
            found.append(
                Answer(
                    target.name, format, first[format].precision, refused, kept,
                    {kind: reasons[kind] for kind in kept if kind in reasons},
                    dict.fromkeys(network.images, ("NCHW", "NHWC")) if format == "tflite" and not refused else {},
                )
            )  # fmt: skip
    return tuple(found)


def refused_ops(
    info: SourceInfo, network: Network, target: Target, format: str, missing: Mapping[str, Missing]
) -> Iterator[str]:
    """Yield a sentence for each kind of op that this target lacks in files of ``format``, with its first place."""
    if info.format == "onnx":
        for kind in dict.fromkeys(op.kind for op in network.ops if op.kind in target.refuses):
            yield f"{_places(kind, network)}: {target.primary.runtime} has no such operator"
        for kind in sorted({op.kind for op in network.ops} - CONVERTED) if format == "tflite" else ():
            yield f"{_places(kind, network)}: TFLite has no form of it"
    asked = missing.get(format)
    if asked is None:
        return
    if asked.failure:
        yield asked.failure
    for kind, places in asked.ops.items():
        why = f"{_NAMES[format]} has no form of it"
        yield f"{_counted(kind, places)}: {why}; {HELP.get(kind, _OUTSIDE)}"


def _places(kind: str, network: Network) -> str:
    return _counted(kind, [op.name for op in network.ops if op.kind == kind])


def _counted(kind: str, places: Sequence[str]) -> str:
    more = f" and {len(places) - 1} more" if len(places) > 1 else ""
    return f"{kind} at {places[0]!r}{more}" if places else kind


def has_open_size(network: Network) -> bool:
    """Tell whether an input leaves a size besides the batch open."""
    return any(is_open(Input(tensor.name, tensor.shape, tensor.dtype)) for tensor in network.inputs)


def _refused(
    info: SourceInfo, network: Network, target: Target, format: str, missing: Mapping[str, Missing]
) -> Iterator[str]:
    other, why = _SAME_FORMAT_ONLY.get(info.format, ("", ""))
    if format == other and (info.format == "tflite" or network.quantized):
        yield why
        return
    for tensor in network.inputs:
        entry = Input(tensor.name, tensor.shape, tensor.dtype)
        if is_open(entry):
            axes = ", ".join(str(axis) for axis in tensor.dynamic_axes if axis)
            where = f"on axis {axes}" if axes else "on every axis"
            yield f"input {tensor.name!r} has an open size {where}: say it with --shape {option(entry)}"
        if problem := refusal(entry):
            yield problem
    if info.format == "onnx":
        version = int(network.version.removeprefix("opset ") or 0)
        oldest = OLDEST_OPSET if network.quantized else OLDEST_READ
        if version < oldest:
            yield f"opset {version} is older than {oldest}: export it again with a newer one"
    yield from refused_ops(info, network, target, format, missing)
    rules = [rule for rule in target.lint if rule not in _REPAIRED and rule != "opset_min_13"]
    if info.format == format:
        for finding in lint(info.path, format, rules):
            if finding.severity == "error":
                yield f"{finding.where}: {finding.message}"


def _float_ops(info: SourceInfo, network: Network, output: Output) -> dict[str, int]:
    """Count the ops that have no int8 form worth using there; empty for a float file, or one quantized already."""
    if not output.precision.startswith("int8") or network.quantized:
        return {}
    if (info.format, output.format) == ("onnx", "tflite"):
        return {}  # what the converter makes of an op shows in its file only
    scheme = SCHEMES[_scheme(output)]
    own = info.format in ("onnx", "tflite")
    counts: dict[str, int] = {}
    for op in network.ops:
        kinds = (op.kind,) if own else becomes(op.kind, op.activation, output.format)
        for kind in kinds:
            refused = kind in scheme.refused and kind not in scheme.hazards
            if refused or kind not in scheme.int8 | scheme.hazards | scheme.follows | MOVES | _FLOAT_IN_EVERY_SCHEME:
                counts[kind] = counts.get(kind, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def _scheme(output: Output) -> str:
    return output.scheme or DEFAULT_SCHEME[output.format]
