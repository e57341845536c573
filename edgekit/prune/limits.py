"""How far each block may be narrowed: the recipe's limits by layer name, and its protected layers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from edgekit.errors import RecipeError
from edgekit.prune.channel_graph import ChannelGraph


def largest_cuts(
    graph: ChannelGraph, default: float, limits: Mapping[str, float], protect: Sequence[str]
) -> list[float]:
    """Return for each block the largest share of its channels that may go.

    Patterns are those of file names, on a layer's name (``head_3``) or its path (``outer/head_3``). One that
    names any layer the channels come from or pass through holds for the block; the strictest wins. Raises
    RecipeError for a pattern that matches no layer.
    """
    touching = _blocks_by_layer(graph)
    cuts = [default] * len(graph.blocks)
    strictest = [1.0] * len(graph.blocks)
    for pattern, share in [*limits.items(), *((pattern, 0.0) for pattern in protect)]:
        key = f"prune.limits.{pattern}" if pattern in limits else "prune.protect"
        for layer in _matching(pattern, sorted(touching), key):
            for block in touching[layer]:
                strictest[block] = cuts[block] = min(strictest[block], share)
    return cuts


def _blocks_by_layer(graph: ChannelGraph) -> dict[str, set[int]]:
    """Return every layer of the model with the blocks whose channels it makes or passes on."""
    block_of = {unit: index for index, block in enumerate(graph.blocks) for unit in block.units}
    layers: dict[str, set[int]] = {layer: set() for layer in graph.weight_shapes}
    for axis in graph.axes:
        if axis.role != "in":
            found = {block_of[unit] for unit in set(axis.units.tolist()) if unit in block_of}
            layers.setdefault(axis.layer, set()).update(found)
    return layers


def _matching(pattern: str, layers: Sequence[str], key: str) -> list[str]:
    found = [layer for layer in layers if fnmatchcase(layer, pattern) or fnmatchcase(layer.split("/")[-1], pattern)]
    if not found:
        close = difflib.get_close_matches(pattern.strip("*"), layers, n=3, cutoff=0.4)
        raise RecipeError(
            f"{key}: no layer of this model is named {pattern!r}."
            + (f" Close: {', '.join(close)}." if close else f" It has {', '.join(layers[:5])} and others."),
            "A pattern may use * and ?, and names layers as the model does.",
        )
    return found
