"""How far each block may be narrowed: the recipe's limits by layer name, and its protected layers."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from edgekit.errors import RecipeError, UnsupportedError
from edgekit.prune.channels.graph import ChannelGraph


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


def nothing_to_cut(graph: ChannelGraph, settings: Mapping[str, Any]) -> UnsupportedError:
    """Return the error that says why no channel can go: by ``settings`` of [prune], or by what the network does."""
    widest = max(graph.blocks, key=lambda block: len(block.units) * block.channels, default=None)
    first = "No channel of this model can be cut"
    if widest is None:
        reasons = "; ".join(sorted({item.reason for item in graph.frozen})[:3]) or "it has no layers with channels"
        return UnsupportedError(f"{first}: {reasons}.", "Set prune.enabled = false.")
    keys = ("round_to", "min_channels", "max_layer_cut", *(key for key in ("limits", "protect") if settings[key]))
    held = ", ".join(f"{key} = {settings[key]}" for key in keys)
    return UnsupportedError(
        f"{first} with these settings: the widest that could be, of {widest.layers[0]!r}, are "
        f"{len(widest.units) * widest.channels}, and [prune] keeps them by {held}.",
        "Lower prune.min_channels or prune.round_to, or set prune.enabled = false.",
    )


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
