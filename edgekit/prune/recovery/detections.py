"""Which outputs of a network are boxes, and which are the scores beside them."""

from __future__ import annotations

from collections.abc import Mapping


def find_detections(shapes: Mapping[str, tuple[int | None, ...]]) -> dict[str, str]:
    """Map each box output to the score output that says how much its rows matter.

    A pair is an output of shape (batch, N, 4) beside exactly one of shape (batch, N, classes), same N.
    """
    pairs = {}
    for boxes, shape in shapes.items():
        if len(shape) != 3 or shape[-1] != 4:
            continue
        scores = [name for name, other in shapes.items() if name != boxes and len(other) == 3 and other[1] == shape[1]]
        if len(scores) == 1:
            pairs[boxes] = scores[0]
    return pairs
