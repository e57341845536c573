"""Name the inputs and outputs of a model, whatever structure it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

Arrays = dict[str, npt.NDArray[Any]]

_CONSTANT_AT_MOST = 256 * 2**20  # bytes of weights: a graph is serialized as a whole, and that ends at 2 GB


def input_names(model: keras.Model) -> list[str]:
    return [tensor._keras_history[0].name for tensor in model.inputs]  # a tensor's own name changes with a rebuild


def output_names(model: keras.Model) -> list[str]:
    """Return the output names in flat order: the keys of a dict, else the names of the last layers."""
    structure = None if isinstance(model, keras.Sequential) else model.output
    if isinstance(structure, dict):
        return ["_".join(str(part) for part in path) for path, _ in keras.tree.flatten_with_path(structure)]
    names: list[str] = []
    for tensor in model.outputs:
        name = tensor._keras_history[0].name
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def output_shapes(model: keras.Model) -> dict[str, tuple[int | None, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in zip(output_names(model), model.outputs, strict=True)}


def call(model: keras.Model, inputs: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
    """Run the model on inputs by name and return its outputs by name."""
    flat = [inputs[name] for name in input_names(model)]
    structure = None if isinstance(model, keras.Sequential) else model.input
    packed = (
        flat[0]
        if len(flat) == 1 and not isinstance(structure, dict)
        else (keras.tree.pack_sequence_as(structure, flat))
    )
    return dict(zip(output_names(model), keras.tree.flatten(model(packed, training=training)), strict=True))


def sample_count(arrays: Mapping[str, npt.NDArray[Any]]) -> int:
    return len(next(iter(arrays.values())))


def batches(arrays: Mapping[str, npt.NDArray[Any]], batch: int) -> Iterator[Arrays]:
    """Yield consecutive slices of at most ``batch`` samples."""
    for start in range(0, sample_count(arrays), batch):
        yield {name: array[start : start + batch] for name, array in arrays.items()}


def predict(model: keras.Model, inputs: Arrays, batch: int = 16) -> Arrays:
    """Compute all outputs for all samples as numpy arrays, by name."""
    forward = predictor(model)
    parts = [forward(part) for part in batches(inputs, batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def predictor(model: keras.Model) -> Callable[[Arrays], Arrays]:
    """Compile the model once for many batches; the function maps inputs to outputs, both by name."""
    forward = tf.function(lambda tensors: call(model, tensors), reduce_retracing=True)
    return lambda inputs: {name: value.numpy() for name, value in forward(as_tensors(inputs)).items()}


def fixed_predictor(model: keras.Model) -> Callable[[Arrays], Arrays]:
    """Like ``predictor``, for a model that nobody trains meanwhile: with constant weights, batch norms fold away.

    A model too large to lie in one graph keeps its variables.
    """
    known = [(variable, np.array(variable.value.numpy())) for variable in model.variables]
    if sum(array.nbytes for _, array in known) > _CONSTANT_AT_MOST:
        return predictor(model)

    def forward(tensors: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        with keras.StatelessScope([(variable, tf.constant(array)) for variable, array in known]):
            return call(model, tensors)

    traced = tf.function(forward, reduce_retracing=True)
    return lambda inputs: {name: value.numpy() for name, value in traced(as_tensors(inputs)).items()}


def as_tensors(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(array) for name, array in arrays.items()}
