"""Look at any trained model: what goes in and out, what it costs, what each target would make of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgekit import source, worker
from edgekit.errors import RecipeError
from edgekit.inspection import keras_graph, onnx_graph, tflite_graph
from edgekit.inspection.guess import Guess, guess
from edgekit.inspection.network import Network, Op, Shape, Tensor, peak_bytes
from edgekit.inspection.refusals import Answer, answers
from edgekit.progress import Progress
from edgekit.sized import sized
from edgekit.source import SourceInfo
from edgekit.source.shapes import Shapes, check
from edgekit.target import Target

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
    try:
        with sized(path, info.format, given, progress, info.signature, custom) as file:
            seen = replace(info, path=file, signature="" if given else info.signature)
            if info.format == "pt2":
                seen = replace(seen, format="onnx")
            network = _READERS[seen.format](seen, progress, custom)
            found = answers(seen, network, targets)
        return Inspection(info, network, peak_bytes(network), guess(network), found, given)
    except _CONTRADICTIONS as error:
        raise RecipeError(
            f"{path} is damaged: its parts contradict each other ({type(error).__name__}: {error}).",
            "Copy the file again, or export the model again.",
        ) from error


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
