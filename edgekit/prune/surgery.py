"""Cut channels out of a model, and prove that nothing else changed."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from edgekit.errors import StageError
from edgekit.prune.functional import as_functional, copy_model, operations, rebuild, weight_array
from edgekit.prune.graph import BoolArray, ChannelGraph, ConfigField, count_kept, stays
from edgekit.prune.masked_norm import normalize_over
from edgekit.prune.selection import Selection
from edgekit.prune.signature import Arrays, predict


def prune(model: keras.Model, graph: ChannelGraph, selection: Selection) -> keras.Model:
    """Build the smaller model: inputs and outputs as before, weights sliced, nothing compiled.

    The given model is not touched. Raises StageError where a sliced weight does not fit its new layer.
    """
    source = as_functional(model)
    kept = selection.mask(graph)
    fields: dict[str, list[ConfigField]] = defaultdict(list)
    for field in graph.fields:
        fields[field.layer].append(field)

    def edit(key: str, config: dict[str, Any]) -> None:
        for field in fields[key]:
            width = count_kept(field.units, kept)
            *path, name = field.field.split(".")
            place: Any = config
            for step in path:
                place = place[int(step) if isinstance(place, list) else step]
            if field.index is None:
                place[name] = width
            else:
                sizes = list(np.atleast_1d(np.asarray(place[name], dtype=object)))
                sizes[field.index] = width
                place[name] = sizes

    pruned = rebuild(source, edit)
    _copy_sliced(source, pruned, graph, kept)
    return pruned


def zeroed(model: keras.Model, graph: ChannelGraph, selection: Selection) -> keras.Model:
    """Copy the unpruned model with every weight row that reads a removed channel set to zero.

    A normalization across channels reads without weights: in the copy its mean and variance run over the
    channels that stay. It is the one place where removing a channel changes others, also in this reference.
    """
    copied = copy_model(as_functional(model))
    layers = operations(copied)
    kept = selection.mask(graph)
    for axis in graph.axes:
        if axis.role != "in":
            continue
        weight = layers[axis.layer].weights[axis.weight]
        shape = [1] * len(weight.shape)
        shape[axis.axis] = -1
        weight.assign(weight_array(weight) * stays(axis.units, kept).reshape(shape))
    for item in graph.normalizations:
        if not (living := stays(item.units, kept)).all():
            normalize_over(layers[item.layer], living)
    return copied


def verify_exact(
    model: keras.Model, graph: ChannelGraph, selection: Selection, pruned: keras.Model, inputs: Arrays
) -> float:
    """Compare the pruned model with ``zeroed``: the largest absolute difference over each output's own scale.

    Only float rounding may remain: sums over fewer terms in another order, about 1e-6 in float32.
    """
    expected = predict(zeroed(model, graph, selection), inputs)
    found = predict(pruned, inputs)
    return max(_relative_difference(expected[name], found[name]) for name in expected)


def _relative_difference(expected: npt.NDArray[Any], found: npt.NDArray[Any]) -> float:
    if expected.shape != found.shape:
        return float("inf")
    scale = float(np.max(np.abs(expected))) or 1.0
    difference = float(np.max(np.abs(expected.astype(np.float64) - found))) / scale
    return difference if np.isfinite(difference) else float("inf")


def _copy_sliced(source: keras.Model, pruned: keras.Model, graph: ChannelGraph, kept: BoolArray) -> None:
    cuts = {(axis.layer, axis.weight, axis.axis): axis.units for axis in graph.axes}
    targets = operations(pruned)
    for key, layer in operations(source).items():
        if not isinstance(layer, keras.Layer):
            continue
        for index, weight in enumerate(layer.weights):
            array = weight_array(weight)
            for axis in range(array.ndim):
                units = cuts.get((key, index, axis))
                if units is not None:
                    array = np.compress(stays(units, kept), array, axis=axis)
            target = targets[key].weights[index]
            if tuple(target.shape) != array.shape:
                raise StageError(
                    f"pruning '{key}': weight {weight.name} has shape {array.shape}, its new layer expects"
                    f" {tuple(target.shape)}",
                    "This is a gap in the channel graph; please report the layer's configuration.",
                )
            target.assign(array)
