"""Distil what a network computes on the way, not only what it answers: at the channels that both networks have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from edgekit.prune.channels.graph import BoolArray, ChannelGraph, Operated, stays
from edgekit.prune.keras.functional import as_functional
from edgekit.prune.keras.signature import Arrays, call, fixed_predictor, output_names, predict
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
        self.hints = [hint for hint in hints if hint.layer in names]
        self._student = _inside(student, self.hints)
        taught = _inside(teacher, self.hints)
        self._teacher = fixed_predictor(taught)
        few = {name: array[:_SAMPLES] for name, array in inputs.items()}
        known = self._kept(predict(taught, few)) if self.hints else {}
        self._spreads = [_spread(known[_name(index)]) for index in range(len(self.hints))]

    def ask(self, inputs: Arrays) -> Arrays:
        """Return what the teacher answers, by output name, and beside that its features where the student has them."""
        return self._kept(self._teacher(inputs))

    def _kept(self, found: Arrays) -> Arrays:
        return found | {_name(i): found[_name(i)][..., hint.kept] for i, hint in enumerate(self.hints)}

    def __call__(self, inputs: Tensors, taught: Tensors) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        """Return the outputs by name, computed as in training, and the distance of the features, a scalar.

        taught: what ``ask`` said of the same inputs.
        """
        found = call(self._student, inputs, training=True)
        if not self.hints:
            return found, tf.zeros(())
        distances = [
            tf.reduce_mean(tf.square((found.pop(_name(index)) - taught[_name(index)]) / spread))
            for index, spread in enumerate(self._spreads)
        ]
        return found, tf.add_n(distances) / len(distances)


def _inside(model: keras.Model, hints: Sequence[Hint]) -> keras.Model:
    """Return the same layers as a network that also answers with its features; as it is without hints."""
    if not hints:
        return model
    whole = as_functional(model)
    made: dict[str, Any] = {_name(i): whole.get_layer(hint.layer).output for i, hint in enumerate(hints)}
    return keras.Model(whole.input, {**dict(zip(output_names(whole), whole.outputs, strict=True)), **made})


def _name(index: int) -> str:
    return f"feature:{index}"


def _spread(feature: npt.NDArray[Any]) -> npt.NDArray[Any]:
    deviation = feature.std(axis=tuple(range(feature.ndim - 1)))
    return np.asarray(np.maximum(deviation, max(_LEAST_SPREAD * float(deviation.max()), 1e-12)))
