"""Cut channels out of a model, and prove that nothing else changed."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from edgekit.errors import StageError
from edgekit.prune.channels.graph import BoolArray, ChannelGraph, ConfigConstant, ConfigField, count_kept, stays
from edgekit.prune.keras.functional import as_functional, copy_model, operations, rebuild, weight_array, weights_changed
from edgekit.prune.keras.masked_norm import normalize_over
from edgekit.prune.keras.signature import Arrays, predict
from edgekit.prune.selection.greedy import Selection


def prune(model: keras.Model, graph: ChannelGraph, selection: Selection) -> keras.Model:
    """Build the smaller model: inputs and outputs as before, weights sliced, nothing compiled.

    The given model is not touched. Raises StageError where a sliced weight does not fit its new layer.
    """
    source = as_functional(model)
    kept = selection.mask(graph)
    edits: dict[str, list[ConfigField | ConfigConstant]] = defaultdict(list)
    for field in graph.fields:
        edits[field.layer].append(field)
    for constant in graph.constants:
        edits[constant.layer].append(constant)

    def edit(key: str, entry: dict[str, Any]) -> None:
        for item in edits[key]:
            *path, last = item.path
            place: Any = entry
            for step in path:
                place[step] = _editable(place[step])
                place = place[step]
            if isinstance(item, ConfigField):
                _put(place, last, count_kept(item.units, kept))
            else:
                array = np.compress(stays(item.units, kept), np.asarray(place[last]), axis=item.axis)
                place[last] = array.tolist()

    pruned = rebuild(source, edit)
    _copy_sliced(source, pruned, graph, kept)
    return pruned


def _editable(value: Any) -> Any:
    """Make a list of a tuple, and of a number that stands for several (equal parts of a split)."""
    if isinstance(value, dict | list):
        return value
    return list(value) if isinstance(value, tuple) else [value]


def _put(place: Any, key: str | int, value: int) -> None:
    if isinstance(place, list) and int(key) >= len(place):
        place.append(value)
    else:
        place[key] = value


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
        weights_changed(targets[key])
