"""Look at any trained model: what goes in and out, what it costs, what each target would make of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekit import source, worker
from edgekit.convert.onnx_tflite_ops import CONVERTED
from edgekit.errors import RecipeError, StageError, UnsupportedError
from edgekit.inspection import keras_graph, onnx_graph, tflite_graph
from edgekit.inspection.guess import Guess, guess
from edgekit.inspection.network import Network, Op, Shape, Tensor, peak_bytes
from edgekit.inspection.op_support import Missing, is_ordinary
from edgekit.inspection.refusals import Answer, answers, has_open_size, refused_ops
from edgekit.progress import Progress
from edgekit.sized import sized
from edgekit.source import SourceInfo
from edgekit.source.shapes import Shapes, check
from edgekit.target import Target

_SIMPLIFY = "edgekit.convert.onnx_source:simplify"
_CONVERTED = ("keras", "h5", "saved_model")  # by TensorFlow's converter and tf2onnx
# What reading a file raises that is whole, as its format goes, and makes no sense.
_CONTRADICTIONS = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError)


@dataclass(frozen=True)
class Inspection:
    """Everything ``edgekit inspect`` says. ``activation_bytes``: the most alive at once, at batch 1.

    ``shapes``: those that were given, of inputs whose sizes the file leaves open.
    """

    source: SourceInfo
    network: Network
    activation_bytes: int | None
    task: Guess
    targets: tuple[Answer, ...]
    shapes: Shapes = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        network = self.network
        return {
            "path": str(self.source.path),
            "format": self.source.format,
            "version": network.version,
            "signature": self.source.signature,
            "size_bytes": self.source.size_bytes,
            "inputs": [_tensor_json(tensor) for tensor in network.inputs],
            "outputs": [_tensor_json(tensor) for tensor in network.outputs],
            "parameters": network.parameters,
            "weight_bytes": network.weight_bytes,
            "macs": network.macs,
            "macs_unknown_for": list(network.uncounted),
            "activation_bytes": self.activation_bytes,
            "ops": network.histogram,
            "custom_ops": list(network.custom_ops),
            "quantized": network.quantized,
            "layers": list(self.source.layers),
            "task": asdict(self.task),
            "targets": [asdict(answer) for answer in self.targets],
            "warnings": [*self.source.warnings, *network.notes],
        }


def look(
    path: Path, targets: list[Target], progress: Progress, signature: str = "", shapes: Shapes | None = None,
    custom: Path | None = None,
) -> Inspection:  # fmt: skip
    """Check and read a model file; SavedModels, and Keras files that do not say every shape, in a child process.

    ``shapes``: of inputs whose sizes are open. ``custom``: the user's file with the classes of a Keras model's own
    layers; a child process runs it, and only where the shapes cannot be read. Raises what ``edgekit.source.inspect``
    and ``source.shapes.check`` raise, and StageError where the child fails.
    """
    info = source.inspect(path, signature, custom)
    given = check(info.inputs, shapes or {}, path)
    with _read(info, given, progress, custom) as (seen, network):
        found = answers(seen, network, targets, _missing(seen, network, progress, custom))
        return Inspection(info, network, peak_bytes(network), guess(network), found, given)


def refused(
    info: SourceInfo, targets: list[Target], progress: Progress, shapes: Shapes
) -> dict[tuple[str, str], str]:  # fmt: skip
    """Return why a target cannot run what becomes of an ONNX file in a format, by (target, format); ops alone count.

    ``shapes``: of all inputs whose sizes are open. Ops may be gone once the file is simplified: where some are in
    doubt, it is looked at as the build would write it, which takes a second or two.
    """
    kinds = set(info.layers)
    if kinds <= CONVERTED and not any(kinds & set(target.refuses) for target in targets):
        return {}
    with _read(info, shapes, progress, None) as (seen, network), tempfile.TemporaryDirectory(prefix="edgekit-") as made:
        if not seen.quantized:
            worker.run(_SIMPLIFY, {"model": seen.path.resolve()}, Path(made), progress, label="reading")
            network = onnx_graph.read(Path(made) / "model.onnx")
        pairs = [(target, format) for target in targets for format in {output.format for output in target.outputs}]
        lines = {(target.name, format): refused_ops(seen, network, target, format, {}) for target, format in pairs}
        return {pair: why for pair, found in lines.items() if (why := "; ".join(found))}


@contextmanager
def _read(
    info: SourceInfo, shapes: Shapes, progress: Progress, custom: Path | None
) -> Iterator[tuple[SourceInfo, Network]]:
    """Yield the network and the file that it was read from: ``info``'s own, or a copy with these shapes."""
    path = info.path
    try:
        with sized(path, info.format, shapes, progress, info.signature, custom) as file:
            seen = replace(info, path=file, signature="" if shapes else info.signature)
            if info.format == "pt2":
                seen = replace(seen, format="onnx")
            yield seen, _READERS[seen.format](seen, progress, custom)
    except _CONTRADICTIONS as error:
        raise RecipeError(
            f"{path} is damaged: its parts contradict each other ({type(error).__name__}: {error}).",
            "Copy the file again, or export the model again.",
        ) from error


def _missing(info: SourceInfo, network: Network, progress: Progress, custom: Path | None) -> dict[str, Missing]:
    """Ask the converters what they lack, in a child process, where the kinds of ops alone do not tell."""
    if info.format not in _CONVERTED or has_open_size(network):
        return {}
    if custom is None and is_ordinary(network, info.format):
        return {}
    arguments = {"model": info.path.resolve(), "source": info.format, "signature": info.signature}
    try:
        found = _in_child("missing", arguments, progress, custom)
    except (UnsupportedError, StageError) as error:
        why = " ".join(filter(None, (error.message, error.hint)))
        return dict.fromkeys(("tflite", "onnx"), Missing(failure=why))
    layers = () if info.format == "saved_model" else network.ops
    return {format: Missing(_named(said["ops"], layers), said["failure"]) for format, said in found.items()}


def _named(places: Mapping[str, Sequence[str]], layers: Sequence[Op]) -> dict[str, Sequence[str]]:
    """Return the places by the names that the user gave, where layers are of the same kind."""
    return {kind: [layer.name for layer in layers if layer.kind == kind] or found for kind, found in places.items()}


def _keras(info: SourceInfo, progress: Progress, custom: Path | None) -> Network:
    try:
        return keras_graph.read(keras_graph.config_of(info.path), info.parameters)
    except (keras_graph.UnknownShapes, *_CONTRADICTIONS):
        found = _in_child("keras_config", {"model": info.path.resolve()}, progress, custom)
    shapes = {name: tuple(shape) for name, shape in found["outputs"].items()}
    return keras_graph.read(found["config"], info.parameters, shapes)


def _saved_model(info: SourceInfo, progress: Progress, _: Path | None) -> Network:
    found = _in_child("saved_model", {"model": info.path.resolve(), "signature": info.signature}, progress)
    return _network(found["network"])


def _in_child(
    function: str, arguments: dict[str, Any], progress: Progress, custom: Path | None = None
) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        called = f"edgekit.inspection.in_tensorflow:{function}"
        return worker.run(called, arguments, Path(folder), progress, label="inspection", custom=custom)


_READERS: dict[str, Callable[[SourceInfo, Progress, Path | None], Network]] = {
    "keras": _keras,
    "h5": _keras,
    "saved_model": _saved_model,
    "onnx": lambda info, *_: onnx_graph.read(info.path),
    "tflite": lambda info, *_: tflite_graph.read(info.path),
}


def _network(found: dict[str, Any]) -> Network:
    """Return the network that came as JSON out of a child process."""
    return Network(
        **{
            **found,
            "inputs": tuple(map(_tensor, found["inputs"])),
            "outputs": tuple(map(_tensor, found["outputs"])),
            "ops": tuple(
                Op(**{**op, "inputs": tuple(op["inputs"]), "outputs": tuple(op["outputs"])}) for op in found["ops"]
            ),
            "tensors": {name: _tensor(tensor) for name, tensor in found["tensors"].items()},
            "custom_ops": tuple(found["custom_ops"]),
            "notes": tuple(found["notes"]),
        }
    )


def _tensor(found: dict[str, Any]) -> Tensor:
    shape: Shape | None = None if found["shape"] is None else tuple(found["shape"])
    return Tensor(found["name"], shape, found["dtype"], found["layout"])


def _tensor_json(tensor: Tensor) -> dict[str, Any]:
    return {**asdict(tensor), "dynamic_axes": list(tensor.dynamic_axes)}
