"""Read a Keras 3 model as named operations, and make independent copies of it through its config."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from edgekit.errors import UnsupportedError

EditEntry = Callable[[str, dict[str, Any]], None]
"""Changes one operation in place; called with its key and its entry: "config" and, per call, "inbound_nodes"."""


def as_functional(model: keras.Model) -> keras.Model:
    """Return the model as a functional graph (a built Sequential is rewrapped around the same layers).

    Raises UnsupportedError for subclassed or unbuilt models: their graph cannot be read.
    """
    if isinstance(model, keras.Sequential):
        if not model.built:
            raise UnsupportedError(
                f"model '{model.name}' has no input shape yet", "Call model.build(...) before saving it."
            )
        return keras.Model(model.inputs, model.outputs, name=model.name)
    if not hasattr(model, "_nodes_by_depth"):
        raise UnsupportedError(
            f"model '{model.name}' is a {type(model).__name__}, not a functional graph, and cannot be pruned",
            "Rebuild it with keras.Model(inputs, outputs), or leave pruning out ([prune] enabled = false).",
        )
    return model


def inner_graph(operation: Any) -> Any | None:
    """Return the graph of a nested functional or Sequential model, or None for every other operation."""
    if isinstance(operation, keras.Sequential):
        return operation._functional
    return operation if hasattr(operation, "_nodes_by_depth") else None


def graph_inside(operation: Any) -> Any | None:
    """Return the graph of a nested model, also of one that TimeDistributed calls for every step, or None."""
    return inner_graph(operation.layer if isinstance(operation, keras.layers.TimeDistributed) else operation)


def nodes_in_order(graph: Any) -> Iterator[Any]:
    """Yield the calls of a graph, producers before consumers, always in the same order."""
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from graph._nodes_by_depth[depth]


def call_indices(graph: Any) -> dict[int, int]:
    """Number the calls of each operation, by the id of their node, as the graph's config lists them."""
    inside = {id(node) for depth in graph._nodes_by_depth.values() for node in depth}
    return {
        id(node): index
        for operation in graph.operations
        for index, node in enumerate(node for node in operation._inbound_nodes if id(node) in inside)
    }


def operations(model: keras.Model, prefix: str = "") -> dict[str, Any]:
    """Map ``outer/inner/name`` to every operation that is not itself a nested model, in graph order."""
    found: dict[str, Any] = {}
    for operation in (graph_inside(model) or model).operations:
        key = prefix + operation.name
        if graph_inside(operation) is None:
            found[key] = operation
        else:
            found.update(operations(operation, key + "/"))
    return found


def rebuild(model: keras.Model, edit: EditEntry) -> keras.Model:
    """Make a new model with fresh weights from the config of this one, after ``edit`` saw every operation."""
    try:
        config = model.get_config()
        _edit_layers(config["layers"], edit, "")
        return keras.Model.from_config(config)
    except (ValueError, TypeError, NotImplementedError, KeyError) as error:
        raise UnsupportedError(
            f"model '{model.name}' cannot be rebuilt from its config: {error}",
            "Lambda layers and custom classes without get_config() cannot be pruned.",
        ) from error


def copy_model(model: keras.Model) -> keras.Model:
    """Make an independent copy: own layers, own weights, nothing shared and nothing compiled."""
    copied = rebuild(model, lambda key, entry: None)
    for source, target in zip(operations(model).values(), operations(copied).values(), strict=True):
        if isinstance(source, keras.Layer):
            for old, new in zip(source.weights, target.weights, strict=True):
                new.assign(old)
            weights_changed(target)
    return copied


def weights_changed(layer: keras.Layer) -> None:
    """Let a layer that computes with copies of its weights (Normalization) make them anew."""
    if isinstance(layer, keras.layers.Normalization):
        layer.finalize_state()


def weight_array(weight: keras.Variable) -> npt.NDArray[Any]:
    """Return a copy of a weight's values (keras.ops.convert_to_numpy warns under numpy 2)."""
    return np.array(weight.value.numpy())


def _edit_layers(layers: list[dict[str, Any]], edit: EditEntry, prefix: str) -> None:
    for entry in layers:
        _forget_built_shapes(entry)
        key = prefix + entry["config"]["name"]
        timed = entry["class_name"] == "TimeDistributed" and not entry.get("registered_name")
        inside = entry["config"]["layer"] if timed else entry
        config = inside["config"]
        if inside["class_name"] in ("Functional", "Sequential", "Model") and "layers" in config:
            config.pop("build_input_shape", None)
            _edit_layers(config["layers"], edit, key + "/")
        else:
            edit(key, entry)


def _forget_built_shapes(entry: Any) -> None:
    """Drop the shapes that a layer, and the layers wrapped in it, were built for: the first call builds anew."""
    if isinstance(entry, dict):
        entry.pop("build_config", None)
    for value in entry.values() if isinstance(entry, dict) else entry:
        if isinstance(value, dict | list):
            _forget_built_shapes(value)
