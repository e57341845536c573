"""Run networks of one structure side by side, operation by operation, and look at each before it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from edgekit.errors import StageError
from edgekit.prune.keras.functional import as_functional, inner_graph, nodes_in_order
from edgekit.prune.keras.signature import Arrays, as_tensors, batches, input_names

Parts = list[tf.Tensor]  # one tensor per batch of samples
Visit = Callable[[str, Sequence[Any], Sequence[Parts]], None]
"""Sees ``outer/inner/name``, one operation per network, and what each of them is about to be given."""
Values = dict[int, Parts]


def walk(networks: Sequence[keras.Model], inputs: Arrays, batch: int, visit: Visit) -> int:
    """Compute every tensor of all networks once, calling ``visit`` before each operation; it may change weights.

    A tensor is held for all samples until its last reader ran. Returns the most bytes held at once.
    """
    sources = [as_functional(network) for network in networks]
    parts = [as_tensors(part) for part in batches(inputs, batch)]
    values: list[Values] = [
        {
            id(tensor): [part[name] for part in parts]
            for name, tensor in zip(input_names(source), source.inputs, strict=True)
        }
        for source in sources
    ]
    return _walk(sources, values, "", visit)


def _walk(graphs: Sequence[Any], values: list[Values], prefix: str, visit: Visit) -> int:
    most = 0
    last_readers = [_last_readers(graph) for graph in graphs]
    for index, nodes in enumerate(zip(*map(nodes_in_order, graphs), strict=True)):
        key = prefix + nodes[0].operation.name
        if any(prefix + node.operation.name != key for node in nodes):
            raise StageError(
                f"'{key}' stands elsewhere in the cut network than in the original",
                "This is a bug in edgekit; turn the closed-form repair off meanwhile.",
            )
        if nodes[0].is_input:
            continue
        held = sum(map(_bytes, values))
        if inner_graph(nodes[0].operation) is None:
            given = [_given(*each)[0] for each in zip(nodes, values, strict=True)]
            visit(key, [node.operation for node in nodes], given)
            results = [_run(*each) for each in zip(nodes, values, strict=True)]
        else:
            inner: list[Any] = [inner_graph(node.operation) for node in nodes]
            inside = [
                {id(tensor): given for tensor, given in zip(graph.inputs, _given(*each), strict=True)}
                for graph, *each in zip(inner, nodes, values, strict=True)
            ]
            held += _walk(inner, inside, key + "/", visit)
            results = [
                [found[id(tensor)] for tensor in graph.outputs] for graph, found in zip(inner, inside, strict=True)
            ]
        for node, found, outputs, last in zip(nodes, values, results, last_readers, strict=True):
            found.update({id(tensor): parts for tensor, parts in zip(node.output_tensors, outputs, strict=True)})
            most = max(most, held + _bytes(found))
            for tensor in (*node.input_tensors, *node.output_tensors):
                if last.get(id(tensor), index) <= index:
                    found.pop(id(tensor), None)
    return most


def _given(node: Any, values: Values) -> list[Parts]:
    return [values[id(tensor)] for tensor in node.input_tensors]


def _run(node: Any, values: Values) -> list[Parts]:
    """Call one operation on every batch; return its outputs, each as a list over batches."""
    ids = {id(tensor) for tensor in node.input_tensors}
    count = len(values[next(iter(ids))])
    calls = []
    for part in range(count):
        args, kwargs = node.arguments.fill_in({key: values[key][part] for key in ids})
        calls.append(keras.tree.flatten(node.operation(*args, **kwargs)))
    return [list(output) for output in zip(*calls, strict=True)]


def _bytes(values: Values) -> int:
    return sum(tensor.shape.num_elements() * tensor.dtype.size for parts in values.values() for tensor in parts)


def _last_readers(graph: Any) -> dict[int, float]:
    """Map each tensor to the index of the last node that reads it; what a graph returns is kept to the end."""
    last: dict[int, float] = {}
    for index, node in enumerate(nodes_in_order(graph)):
        last.update({id(tensor): float(index) for tensor in node.input_tensors})
    return {**last, **{id(tensor): float("inf") for tensor in graph.outputs}}


def sole_followers(model: keras.Model, kind: Any) -> dict[str, str]:
    """Map each layer to the layer of class ``kind`` that alone reads it and reads nothing else, if there is one."""
    readers: dict[str, set[str | None]] = {}
    _collect_readers(as_functional(model), "", kind, readers)
    sole = {key: follower for key, found in readers.items() if len(found) == 1 and (follower := next(iter(found)))}
    return {key: one for key, one in sole.items() if sum(one in found for found in readers.values()) == 1}


def _collect_readers(graph: Any, prefix: str, kind: Any, readers: dict[str, set[str | None]]) -> None:
    """Note who reads each operation's output; None stands for anybody who is not of the class ``kind``."""
    reading: dict[int, list[str | None]] = {id(tensor): [None] for tensor in graph.outputs}
    for node in nodes_in_order(graph):
        operation = node.operation
        reader = prefix + str(operation.name) if isinstance(operation, kind) else None
        for tensor in node.input_tensors:
            reading.setdefault(id(tensor), []).append(reader)
    for node in nodes_in_order(graph):
        key = prefix + node.operation.name
        inner = inner_graph(node.operation)
        if inner is not None:
            _collect_readers(inner, key + "/", kind, readers)
        for tensor in node.output_tensors:
            readers.setdefault(key, set()).update(reading.get(id(tensor), [None]))


def call_counts(model: keras.Model) -> dict[str, int]:
    """Count how often each operation runs in one forward pass."""
    counts: dict[str, int] = {}
    _count_calls(as_functional(model), "", counts)
    return counts


def _count_calls(graph: Any, prefix: str, counts: dict[str, int]) -> None:
    for node in nodes_in_order(graph):
        key = prefix + node.operation.name
        inner = inner_graph(node.operation)
        if inner is not None:
            _count_calls(inner, key + "/", counts)
        counts[key] = counts.get(key, 0) + 1
