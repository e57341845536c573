"""Distil what a network computes on the way, not only what it answers: at the channels that both networks have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from edgekit.prune.channels.graph import BoolArray, ChannelGraph, Operated, stays
from edgekit.prune.keras.functional import as_functional
from edgekit.prune.keras.signature import Arrays, as_tensors, call, output_names
from edgekit.prune.selection.greedy import Selection

_AT_MOST = 8  # places: more cost memory and time, and neighbours say nearly the same
_SAMPLES = 64  # that the spread of a channel is estimated from
_LEAST_SPREAD = 1e-3  # of the largest in the same place: a dead channel is not blown up

Tensors = Mapping[str, tf.Tensor]


@dataclass(frozen=True, eq=False)
class Hint:
    """A layer whose output both networks have, and which of the original's channels (last axis) the cut one kept."""

    layer: str
    kept: BoolArray


def hints_of(graph: ChannelGraph, selection: Selection) -> tuple[Hint, ...]:
    """Choose where to compare: the sums of residual networks, else the last output of every size; evenly, 8 at most.

    Only layers of the outermost graph that run once and whose channels lie along the last axis.
    """
    runs = Counter(each.layer for each in graph.calls)
    usable = [each for each in graph.calls if runs[each.layer] == 1 and _is_usable(each)]
    sums = [each for each in usable if type(each.operation).__name__ == "Add"]
    last = {each.outputs[0].shape[1:-1]: each for each in usable}
    places = sums if len(sums) > 1 else list(last.values())
    chosen = np.unique(np.linspace(0, len(places) - 1, min(_AT_MOST, len(places))).round().astype(int))
    kept = selection.mask(graph)
    return tuple(Hint(places[i].layer, stays(places[i].outputs[0].units, kept)) for i in chosen)


def _is_usable(each: Operated) -> bool:
    if "/" in each.layer or each.operation is None or len(each.outputs) != 1:
        return False
    made = each.outputs[0]
    return made.axis == -1 and len(made.shape) > 1 and bool((made.units >= 0).any())


class Watched:
    """A student that tells, beside its outputs, how far its features are from its teacher's.

    0 is alike; 1 is what features of the right mean and nothing else come to. Without hints it is always 0. Hints
    at layers that a low-rank pair replaced are passed over.
    """

    def __init__(self, student: keras.Model, teacher: keras.Model, hints: Sequence[Hint], inputs: Arrays) -> None:
        names = {layer.name for layer in student.layers}
        self._student, self._hints = student, [hint for hint in hints if hint.layer in names]
        if not self._hints:
            return
        self._features = _inside(as_functional(student), self._hints, with_outputs=True)
        self._taught = _inside(as_functional(teacher), self._hints, with_outputs=False)
        few = {name: array[:_SAMPLES] for name, array in inputs.items()}
        self._spreads = [_spread(feature) for feature in self._teacher(as_tensors(few))]

    def __call__(self, inputs: Tensors) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Return the outputs by name, computed as in training, and the distance of the features, a scalar."""
        if not self._hints:
            return call(self._student, inputs, training=True), tf.zeros(())
        found = call(self._features, inputs, training=True)
        features = [found.pop(_name(index)) for index in range(len(self._hints))]
        distances = [
            tf.reduce_mean(tf.square((own - known) / spread))
            for own, known, spread in zip(features, self._teacher(inputs), self._spreads, strict=True)
        ]
        return found, tf.add_n(distances) / len(distances)

    def _teacher(self, inputs: Tensors) -> list[tf.Tensor]:
        found = call(self._taught, inputs)
        return [
            tf.boolean_mask(tf.stop_gradient(found[_name(index)]), hint.kept, axis=len(found[_name(index)].shape) - 1)
            for index, hint in enumerate(self._hints)
        ]


def _inside(model: keras.Model, hints: Sequence[Hint], *, with_outputs: bool) -> keras.Model:
    """Return the same layers as a network that also answers with the features."""
    made: dict[str, Any] = {_name(i): model.get_layer(hint.layer).output for i, hint in enumerate(hints)}
    own = dict(zip(output_names(model), model.outputs, strict=True)) if with_outputs else {}
    return keras.Model(model.input, {**own, **made})


def _name(index: int) -> str:
    return f"feature:{index}"


def _spread(feature: tf.Tensor) -> tf.Tensor:
    deviation = tf.math.reduce_std(feature, axis=list(range(len(feature.shape) - 1)))
    return tf.maximum(deviation, tf.maximum(_LEAST_SPREAD * tf.reduce_max(deviation), 1e-12))
