"""Spell a Keras 2 configuration as Keras 3 does: same layers, same numbers, no code.

Keras 3 refuses arguments that it no longer knows, also where they say nothing. Here they go if, and only if, they
say nothing; what means something stays, and is refused by Keras with its own words.
"""

from __future__ import annotations

from collections.abc import Callable
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
    policy = inner.get("dtype")
    if isinstance(policy, dict) and policy.get("class_name") in _POLICIES and isinstance(policy.get("config"), dict):
        inner["dtype"] = policy["config"].get("name", "float32")
    rename = _RENAMES.get(name)
    return {**found, **(rename(inner) if rename else {"config": inner})}


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
