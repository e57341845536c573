"""Turn TensorFlow's tensor names into those of the layers: a file repeats them many times over."""

from __future__ import annotations

import re
from collections.abc import Iterable

_OPERATION = re.compile(r"(/batchnorm)?/[^/]+$")


def model_name(names: Iterable[str]) -> str:
    """Return the first part of all names that have parts, with its slash, if it is one: the model's own name."""
    first = {name.partition("/")[0] for name in names if "/" in name}
    return first.pop() + "/" if len(first) == 1 else ""


def short(name: str, model: str) -> str:
    """Return the layer's path, without the model's name and TensorFlow's op."""
    path = name.removeprefix(model)
    return _OPERATION.sub("", path) or path


def unique(name: str, taken: set[str]) -> str:
    """Return ``name``, numbered if it is taken, and take it."""
    candidate, count = name, 1
    while candidate in taken:
        candidate, count = f"{name}_{count}", count + 1
    taken.add(candidate)
    return candidate
