"""Spell a Keras 2 configuration as Keras 3 does: same layers, same numbers, no code.

Keras 3 refuses arguments that it no longer knows, also where they say nothing. Here they go if, and only if, they
say nothing; what means something stays, and is refused by Keras with its own words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Config = dict[str, Any]

# Arguments that are gone, and the value at which they had no effect.
_GROUPS = (
    "DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D Conv1DTranspose Conv2DTranspose Conv3DTranspose"
)
_NORM: Config = {"renorm": False, "renorm_clipping": None, "renorm_momentum": 0.99, "fused": None}
SILENT: dict[str, Config] = {
    **{name: {"groups": 1} for name in _GROUPS.split()},
    **{name: {"time_major": False, "implementation": 2} for name in ("LSTM", "GRU")},
    "RNN": {"time_major": False},
    "BatchNormalization": {"fused": None, "virtual_batch_size": None, "adjustment": None},
}
# The first values of weights do not matter in a trained model; these are the initializers whose names still exist.
_INITIALIZERS = frozenset(
    (
        "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity", "LecunNormal", "LecunUniform",
        "Ones", "Orthogonal", "RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling", "Zeros",
    )
)  # fmt: skip
_DISTRIBUTIONS = {"normal": "truncated_normal"}
_POLICIES = {"Policy", "PolicyV1"}


def modern(value: Any) -> Any:
    """Return a configuration with every old spelling replaced. A Keras 3 configuration stays what it is."""
    if isinstance(value, list):
        return [modern(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: _initializer(item) if key.endswith("_initializer") else modern(item) for key, item in value.items()}
    inner, name = found.get("config"), found.get("class_name")
    if not isinstance(inner, dict) or not isinstance(name, str):
        return found
    silent = SILENT.get(name, {})
    inner = {key: item for key, item in inner.items() if not (key in silent and item == silent[key])}
    if isinstance(inner.get("layers"), list):
        inner = _numbered_from_0(inner)
    policy = inner.get("dtype")
    if isinstance(policy, dict) and policy.get("class_name") in _POLICIES and isinstance(policy.get("config"), dict):
        inner["dtype"] = policy["config"].get("name", "float32")
    rename = _RENAMES.get(name)
    return {**found, **(rename(inner) if rename else {"config": inner})}


def _numbered_from_0(graph: Config) -> Config:
    """Count the calls of each nested Sequential from 0: in Keras 2 its own making was call 0, which nobody reads.

    Not so where it was made without a shape; then no call has the number of the calls that there are.
    """
    layers = [layer for layer in graph["layers"] if isinstance(layer, dict)]
    reads = [node for layer in layers for node in layer.get("inbound_nodes") or []]
    if not reads or not all(isinstance(node, list) for node in reads):  # Keras 3 writes each as a dict
        return graph
    ends = {key: graph[key] for key in ("input_layers", "output_layers") if key in graph}
    calls = {
        str(layer.get("name")): len(layer.get("inbound_nodes") or [])
        for layer in layers
        if layer.get("class_name") == "Sequential"
    }
    late = {name for name, number in _called([*reads, *ends.values()]) if number >= calls.get(name, number + 1)}

    def renumbered(value: Any) -> Any:
        if isinstance(value, list) and _is_call(value):
            return [value[0], value[1] - (value[0] in late), *value[2:]]
        return [renumbered(item) for item in value] if isinstance(value, list) else value

    changed = [
        {**layer, "inbound_nodes": renumbered(layer["inbound_nodes"])} if "inbound_nodes" in layer else layer
        for layer in layers
    ]
    return {**graph, "layers": changed, **{key: renumbered(value) for key, value in ends.items()}}


def _called(value: Any) -> Iterator[tuple[str, int]]:
    """Yield layer and number of every call that is read."""
    if isinstance(value, list) and _is_call(value):
        yield value[0], value[1]
    elif isinstance(value, list):
        for item in value:
            yield from _called(item)


def _is_call(value: list[Any]) -> bool:
    return len(value) in (3, 4) and [type(part) for part in value[:3]] == [str, int, int]


def _initializer(value: Any) -> Any:
    """Old ones take a dtype, a distribution that has another name, or are gone: then any other does."""
    if not isinstance(value, dict) or "module" in value or not isinstance(value.get("config"), dict):
        return value
    if value.get("class_name") not in _INITIALIZERS:
        return {"class_name": "Zeros", "config": {}}
    config = {key: item for key, item in value["config"].items() if key not in ("dtype", "partition_info")}
    if config.get("distribution") in _DISTRIBUTIONS:
        config["distribution"] = _DISTRIBUTIONS[config["distribution"]]
    return {**value, "config": config}


def _one_axis(config: Config) -> Config:
    axis = config.get("axis")
    return {"config": {**config, "axis": axis[0] if isinstance(axis, list) and len(axis) == 1 else axis}}


def _leaky(config: Config) -> Config:
    rest = {key: value for key, value in config.items() if key != "alpha"}
    return {"config": {**rest, "negative_slope": config["alpha"]} if "alpha" in config else rest}


def _thresholded(config: Config) -> Config:
    rest = {key: value for key, value in config.items() if key != "theta"}
    return {"class_name": "ReLU", "config": {**rest, "threshold": config.get("theta", 1.0)}}


_RENAMES: dict[str, Callable[[Config], Config]] = {
    "BatchNormalization": _one_axis,
    "LeakyReLU": _leaky,
    "ThresholdedReLU": _thresholded,
}
