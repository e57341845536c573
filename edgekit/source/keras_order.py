"""Can a Keras model's graph be built at all? Keras itself would try for ever to build a circle."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgekit.errors import RecipeError

Call = tuple[str, int]
_MOST_UNITS = 1 << 27
_SIZES = ("units", "filters", "input_dim", "output_dim", "depth_multiplier")


def check_order(config: dict[str, Any], path: Path) -> None:
    """Raise RecipeError for layers in a circle, ones that read what is not there, and ones of impossible sizes."""
    for body in _graphs(config):
        layers = [layer for layer in body["layers"] if isinstance(layer, dict)]
        _check_sizes(layers, path)
        calls = {
            (str(layer.get("name")), number): node
            for layer in layers
            for number, node in enumerate(layer.get("inbound_nodes") or ())
        }
        names = {str(layer.get("name")) for layer in layers}
        lengths: dict[str, int] = {}
        for name, number in calls:
            lengths[name] = max(lengths.get(name, 0), number + 1)
        waits: dict[Call, set[Call]] = {}
        readers: dict[Call, list[Call]] = {}
        for call, node in calls.items():
            read = set(_read(node))
            missing = next((name for name, _ in read if name not in names), None)
            if missing is not None:
                raise RecipeError(f"{path} is damaged: the layer {call[0]!r} reads {missing!r}, which is not there.")
            # Keras 2 counts the calls of a nested model from its own making: beyond the last is the last.
            waits[call] = {(name, min(number, lengths[name] - 1)) for name, number in read if name in lengths}
            for before in waits[call]:
                readers.setdefault(before, []).append(call)
        ready = [call for call, before in waits.items() if not before]
        while ready:
            done = ready.pop()
            waits.pop(done)
            for reader in readers.get(done, ()):
                waits[reader].discard(done)
                if not waits[reader]:
                    ready.append(reader)
        if waits:
            raise RecipeError(f"{path} is damaged: its layer {min(waits)[0]!r} waits for its own result.")


def _graphs(value: Any) -> Iterator[dict[str, Any]]:
    """Yield the body of every model of layers, nested ones too."""
    if isinstance(value, list):
        for item in value:
            yield from _graphs(item)
    elif isinstance(value, dict):
        if isinstance(value.get("layers"), list):
            yield value
        for item in value.values():
            yield from _graphs(item)


def _read(node: Any) -> Iterator[Call]:
    """Yield layer and call of everything that one call reads, as Keras 3 and as Keras 2 write it."""
    if isinstance(node, dict):
        for item in node.values():
            yield from _read(item)
    elif isinstance(node, list):
        if _is_end(node):
            yield node[0], node[1]
        for item in node:
            yield from _read(item)


def _is_end(value: Any) -> bool:
    if not isinstance(value, list) or len(value) not in (3, 4):
        return False
    return [type(part) for part in value[:3]] == [str, int, int]


def _check_sizes(layers: list[dict[str, Any]], path: Path) -> None:
    for layer in layers:
        config = layer.get("config")
        if not isinstance(config, dict):
            continue
        for key in _SIZES:
            size = config.get(key)
            if isinstance(size, int) and size > _MOST_UNITS:
                raise RecipeError(f"{path} is damaged: {key} of the layer {layer.get('name')!r} is {size:.1e}.")
