"""Read a Keras configuration as a network, without Keras: it stores the shape of every tensor that a layer reads.

What no layer reads, the outputs, is worked out for the common layers; ``UnknownShapes`` says that Keras is needed.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from edgekit.inspection.keras_shapes import macs_of, output_shape
from edgekit.inspection.network import Network, Op, Shape, Tensor, bits, image_layout
from edgekit.source.keras_config import custom_name

_MODELS = {"Functional", "Sequential", "Model"}
Key = tuple[str, int, int]  # layer, call, output


class UnknownShapes(Exception):
    """The configuration alone does not tell every shape."""


def config_of(path: Path) -> dict[str, Any]:
    """Return the configuration of a checked `.keras` or `.h5` file."""
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            text = archive.read("config.json")
    else:
        with h5py.File(path, "r") as file:
            text = file.attrs["model_config"]
    found: dict[str, Any] = json.loads(text)
    return found


def read(config: dict[str, Any], parameters: int | None, outputs: dict[str, Shape] | None = None) -> Network:
    """Return the network; ``outputs``: their shapes where someone who ran Keras knows them.

    Raises UnknownShapes where a shape is neither written down nor follows from the layer.
    """
    reader = _Reader(outputs or {})
    body = _body(config)
    if config["class_name"] == "Sequential":
        ends = reader.sequential(body, "", None)
        names = {str(_layers(body)[-1]["config"]["name"]): ends}
    else:
        reader.functional(body, "", {})
        names = dict(_output_names(body["output_layers"]))
    inputs = tuple(reader.inputs)
    results = tuple(reader.output(name, reader.resolve(key)) for name, key in names.items())
    return Network(
        inputs,
        results,
        tuple(reader.ops),
        reader.tensors,
        parameters,
        parameters * bits("float32") // 8 if parameters is not None else None,
    )


@dataclass
class _Reader:
    known_outputs: dict[str, Shape]
    ops: list[Op] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    inputs: list[Tensor] = field(default_factory=list)
    made: dict[tuple[str, int], list[str]] = field(default_factory=dict)  # by layer and call
    same: dict[Key, Key] = field(default_factory=dict)  # a nested model's ends are its caller's tensors

    def resolve(self, key: Key) -> Key:
        while key in self.same:
            key = self.same[key]
        return key

    def _note(self, key: Key, tensor: Tensor) -> None:
        """Keep a tensor that a layer reads, and that its maker has made it."""
        if tensor.name not in self.tensors:
            self.tensors[tensor.name] = tensor
            self.made.setdefault(key[:2], []).append(tensor.name)

    def output(self, name: str, key: Key) -> Tensor:
        text = _text(key)
        shape = self.known_outputs.get(name) or (self.tensors[text].shape if text in self.tensors else None)
        if shape is None:
            raise UnknownShapes(name)
        known = self.tensors.get(text)
        self.tensors[text] = Tensor(text, shape, known.dtype if known else "float32")
        return Tensor(name, shape, self.tensors[text].dtype)

    def functional(self, body: dict[str, Any], prefix: str, entry: dict[str, Key]) -> None:
        """Add the layers of a functional model; ``entry``: what its input layers stand for, when it is nested."""
        if "layers" not in body:
            raise UnknownShapes("a subclassed model")
        for layer in body["layers"]:
            for node in layer.get("inbound_nodes", ()):
                if not isinstance(node, dict):
                    raise UnknownShapes("written by Keras 2")
                for key, shape, dtype in _arguments(node):
                    found = self.resolve((prefix + key[0], key[1], key[2]))
                    self._note(found, Tensor(_text(found), shape, dtype))
        for layer in body["layers"]:
            self._layer(layer, prefix, entry)

    def _layer(self, layer: dict[str, Any], prefix: str, entry: dict[str, Key]) -> None:
        name, kind, config = str(layer["name"]), str(layer["class_name"]), layer["config"]
        if kind == "InputLayer":
            key = (prefix + name, 0, 0)
            if name in entry:
                self.same[key] = entry[name]
            else:
                self._input(key, name, config)
            return
        for call, node in enumerate(layer["inbound_nodes"]):
            arguments = [
                self.resolve((prefix + key[0], key[1], key[2])) for key, _, _ in _arguments(node)
            ]  # fmt: skip
            if kind in _MODELS:
                self._nested(layer, prefix, call, arguments)
                continue
            self._call(layer, prefix + name, call, arguments)

    def _call(self, layer: dict[str, Any], name: str, call: int, arguments: list[Key]) -> None:
        kind, config = str(layer["class_name"]), layer["config"]
        standard = not custom_name(layer, is_layer=True)
        shapes = [self._shape(key) for key in arguments]
        made = self.made.get((name, call)) or [_text((name, call, 0))]
        first = made[0]
        if first not in self.tensors:
            shape = output_shape(kind, config, shapes)
            dtype = self.tensors[_text(arguments[0])].dtype if arguments else "float32"
            if shape is not None:
                self.tensors[first] = Tensor(first, shape, "float32" if kind == "Embedding" else dtype)
        result = self.tensors[first].shape if first in self.tensors else None
        macs = macs_of(kind, config, shapes, result) if standard else None
        activation = config.get("activation")
        ends = activation if isinstance(activation, str) else ""
        self.ops.append(Op(kind, name, tuple(map(_text, arguments)), tuple(made), macs, ends))

    def _nested(self, layer: dict[str, Any], prefix: str, call: int, arguments: list[Key]) -> None:
        body, inner = _body(layer), f"{prefix}{layer['name']}" + (f"({call})" if call else "") + "/"
        if layer["class_name"] == "Sequential":
            end = self.sequential(body, inner, arguments[0])
            self.same[prefix + str(layer["name"]), call, 0] = end
            return
        entries = [str(key[0]) for _, key in _output_names(body["input_layers"])]
        for index, (_, key) in enumerate(_output_names(body["output_layers"])):
            self.same[prefix + str(layer["name"]), call, index] = (inner + key[0], key[1], key[2])
        self.functional(body, inner, dict(zip(entries, arguments, strict=False)))

    def sequential(self, body: dict[str, Any], prefix: str, entry: Key | None) -> Key:
        """Add a chain of layers, and return its end; each layer knows the shape it was built for."""
        at = entry
        for layer in _layers(body):
            kind, config = str(layer["class_name"]), layer["config"]
            key = (prefix + str(config.get("name", layer.get("name"))), 0, 0)
            if kind == "InputLayer":
                if at is None:
                    self._input(key, key[0], config)
                    at = key
                continue
            if kind in _MODELS:
                if at is None:
                    raise UnknownShapes("no input")
                self._nested({**layer, "name": config.get("name", layer.get("name"))}, prefix, 0, [at])
                at = key
                continue
            if at is None:
                raise UnknownShapes("no input")
            self._call(layer, key[0], 0, [self.resolve(at)])
            at = key
        if at is None:
            raise UnknownShapes("no layer")
        return at

    def _input(self, key: Key, name: str, config: dict[str, Any]) -> None:
        shape = tuple(config.get("batch_shape") or config.get("batch_input_shape") or ())
        if not shape:
            raise UnknownShapes(name)
        dtype = config.get("dtype", "float32")
        dtype = dtype if isinstance(dtype, str) else "float32"
        four = image_layout(shape) or ("NHWC" if len(shape) == 4 else "")
        self.tensors[_text(key)] = Tensor(_text(key), shape, dtype)
        self.inputs.append(Tensor(name, shape, dtype, four))

    def _shape(self, key: Key) -> Shape | None:
        known = self.tensors.get(_text(self.resolve(key)))
        return known.shape if known else None


def _body(config: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = config["config"]
    return body


def _layers(body: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body["layers"]
    return found


def _text(key: Key) -> str:
    return f"{key[0]}#{key[1]}.{key[2]}"


def _arguments(node: dict[str, Any]) -> Iterator[tuple[Key, Shape, str]]:
    """Yield every tensor that one call of a layer reads, with its shape."""
    pending: list[Any] = [node.get("args", []), node.get("kwargs", {})]
    while pending:
        value = pending.pop(0)
        if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
            tensor = value["config"]
            layer, call, index = tensor["keras_history"]
            yield (str(layer), int(call), int(index)), tuple(tensor["shape"]), str(tensor["dtype"])
        elif isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def _output_names(ends: Any) -> Iterator[tuple[str, Key]]:
    """Yield name and tensor of each end: the keys of a dict, else the names of the layers, numbered where alike."""
    names: list[str] = []
    for name, (layer, call, index) in _flat(ends, ""):
        plain = name or layer
        unique = plain if plain not in names else f"{plain}_{len(names)}"
        names.append(unique)
        yield unique, (layer, call, index)


def _flat(value: Any, name: str) -> Iterator[tuple[str, Key]]:
    if isinstance(value, dict):
        for key in value:
            yield from _flat(value[key], f"{name}_{key}" if name else str(key))
    elif isinstance(value, list) and len(value) == 3 and isinstance(value[0], str):
        yield name, (str(value[0]), int(value[1]), int(value[2]))
    elif isinstance(value, list):
        for item in value:
            yield from _flat(item, name)
