"""Where channels go when a tensor is given another shape."""

from __future__ import annotations

import math

import numpy as np

from edgekit.prune.channels.coupling import Channels, IntArray
from edgekit.prune.channels.recorder import Flow, Shape

_LARGEST_PERIOD = 1 << 22


def follow(channels: Channels, source: Flow, target: Shape, only: int | None = None) -> Flow | None:
    """Choose the axis of ``target`` that the channels go on along, couple what meets there, and return it.

    Deleting elements keeps the order of all others, so a reshape stays right where the elements that go are
    whole positions of one axis before it, and of one axis after it. Channels that meet at one position there
    are coupled: anchors (H, W, A * 4) -> (H * W * A, 4), shuffles (H, W, G * C) -> (H, W, G, C).
    None where no axis keeps channels apart. ``only``: the one axis (negative) that what comes next can read.
    """
    inner = _trailing(source.shape, source.axis)
    best: tuple[int, int, IntArray, IntArray] | None = None
    classes = channels.classes(source.ids)
    many = len(np.unique(classes))
    for axis in range(-1, -len(target), -1):
        size, inside = target[axis], _trailing(target, axis)
        if size is None or inside is None or inner is None or (only is not None and axis != only):
            continue
        if axis != -1 and size > len(source.ids) and size * inside != len(source.ids) * inner:
            continue
        period = math.lcm(len(source.ids) * inner, size * inside)
        if period > _LARGEST_PERIOD:
            continue
        element = np.arange(period)
        meetings = np.unique(element // inside % size * len(source.ids) + element // inner % len(source.ids))
        after, before = np.divmod(meetings, len(source.ids))
        count = _components(classes[before], after)
        if best is None or count > best[0]:
            best = (count, axis, after, source.ids[before])
        if count == many:
            break
    if best is None or (best[0] == 1 < many):
        return None
    _, axis, places, ids = best
    _, first = np.unique(places, return_index=True)
    channels.couple(ids[first][places], ids)
    return Flow(target, ids[first], axis)


def _trailing(shape: Shape, axis: int) -> int | None:
    """Count the elements behind one position of an axis; None where a size is unknown."""
    inner = shape[len(shape) + axis + 1 :]
    return None if None in inner else math.prod(inner)  # type: ignore[arg-type]


def _components(left: IntArray, right: IntArray) -> int:
    """Count the connected parts of a graph between two sets, given its edges."""
    _, left = np.unique(left, return_inverse=True)
    labels = np.arange(left.max() + 1)
    while True:
        right_labels = np.full(right.max() + 1, len(labels))
        np.minimum.at(right_labels, right, labels[left])
        lower = labels.copy()
        np.minimum.at(lower, left, right_labels[right])
        if np.array_equal(lower, labels):
            return len(np.unique(labels))
        labels = lower
