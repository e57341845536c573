"""What a Keras layer puts out and what it costs, from its configuration. Batch 1; None is unknown."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from edgekit.inspection.network import Shape, elements, times

Config = dict[str, Any]
Shapes = Sequence[Shape | None]

_SAME_NAMES = """
    Activation ActivityRegularization AlphaDropout BatchNormalization Dropout ELU GaussianDropout GaussianNoise
    GroupNormalization Identity LayerNormalization LeakyReLU Masking Normalization PReLU RMSNormalization ReLU
    Rescaling Softmax SpatialDropout1D SpatialDropout2D SpatialDropout3D UnitNormalization MultiHeadAttention
    """
_SAME = frozenset(_SAME_NAMES.split())
_MERGES = frozenset(("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract"))
# Layers of these kinds multiply, and what they multiply is not written in their configuration.
_UNCOUNTED_NAMES = """
    Attention AdditiveAttention Dot Conv3DTranspose Conv1DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D RNN
    TimeDistributed GroupQueryAttention Wrapper SpectralNormalization STFTSpectrogram MelSpectrogram Einsum Matmul
    """
_UNCOUNTED = frozenset(_UNCOUNTED_NAMES.split())
_GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def output_shape(kind: str, config: Config, inputs: Shapes) -> Shape | None:
    """Return the shape of a layer's only output, or None where this table does not know the layer."""
    first = inputs[0] if inputs else None
    if first is None:
        return None
    if kind in _SAME:
        return first
    if kind in _MERGES:
        return max((shape for shape in inputs if shape is not None), key=lambda shape: elements(shape) or 0)
    rule = _SHAPES.get(kind)
    return rule(config, first, inputs) if rule else None


def macs_of(kind: str, config: Config, inputs: Shapes, result: Shape | None) -> int | None:
    """Return the multiply-accumulates of one call; None where they cannot be told."""
    if kind in _UNCOUNTED:
        return None
    rule = _MACS.get(kind)
    if rule is None:
        return 0
    return rule(config, inputs, result) if inputs and inputs[0] else None


def _window(config: Config, key: str, rank: int) -> list[int]:
    value = config.get(key) or 1
    return [int(v) for v in value] if isinstance(value, list | tuple) else [int(value)] * rank


def _first(config: Config) -> bool:
    return config.get("data_format") == "channels_first"


def _slid(config: Config, shape: Shape, kernel: list[int], channels: int | None) -> Shape:
    rank = len(shape) - 2
    strides = _window(config, "strides", rank)
    dilation = _window(config, "dilation_rate", rank)
    spatial = shape[2:] if _first(config) else shape[1:-1]
    sizes: list[int | None] = []
    for size, window, stride, spread in zip(spatial, kernel, strides, dilation, strict=True):
        reach = (window - 1) * spread + 1
        if size is None:
            sizes.append(None)
        elif config.get("padding") == "valid":
            sizes.append((size - reach) // stride + 1)
        else:
            sizes.append(math.ceil(size / stride))
    return (shape[0], channels, *sizes) if _first(config) else (shape[0], *sizes, channels)


def _conv(config: Config, shape: Shape, _: Shapes) -> Shape:
    rank = len(shape) - 2
    return _slid(config, shape, _window(config, "kernel_size", rank), int(config["filters"]))


def _depthwise(config: Config, shape: Shape, _: Shapes) -> Shape:
    channels = shape[1] if _first(config) else shape[-1]
    return _slid(
        config, shape, _window(config, "kernel_size", len(shape) - 2), times(channels, config["depth_multiplier"])
    )


def _pool(config: Config, shape: Shape, _: Shapes) -> Shape:
    window = _window(config, "pool_size", len(shape) - 2)
    config = {**config, "strides": config.get("strides") or window}
    return _slid(config, shape, window, shape[1] if _first(config) else shape[-1])


def _global_pool(config: Config, shape: Shape, _: Shapes) -> Shape:
    channels = shape[1] if _first(config) else shape[-1]
    if not config.get("keepdims"):
        return (shape[0], channels)
    ones = (1,) * (len(shape) - 2)
    return (shape[0], channels, *ones) if _first(config) else (shape[0], *ones, channels)


def _reshape(config: Config, shape: Shape, _: Shapes) -> Shape | None:
    wanted = [int(size) for size in config["target_shape"]]
    count = elements(shape)
    if -1 in wanted:
        if count is None:
            return (shape[0], *(None if size < 0 else size for size in wanted))
        wanted[wanted.index(-1)] = count // max(1, math.prod(size for size in wanted if size > 0))
    return (shape[0], *wanted)


def _concatenate(config: Config, shape: Shape, inputs: Shapes) -> Shape | None:
    axis = int(config.get("axis", -1)) % len(shape)
    sizes = [each[axis] if each is not None else None for each in inputs]
    total = sum(size for size in sizes if size is not None)
    return (*shape[:axis], None if None in sizes else total, *shape[axis + 1 :])


def _upsampled(config: Config, shape: Shape, _: Shapes) -> Shape:
    factors = _window(config, "size", len(shape) - 2)
    spatial = shape[2:] if _first(config) else shape[1:-1]
    sizes = [times(size, factor) for size, factor in zip(spatial, factors, strict=True)]
    return (shape[0], shape[1], *sizes) if _first(config) else (shape[0], *sizes, shape[-1])


_SHAPES: dict[str, Callable[[Config, Shape, Shapes], Shape | None]] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D", "SeparableConv1D", "SeparableConv2D"), _conv),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise),
    **dict.fromkeys(("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D"), _pool),
    **dict.fromkeys(
        (f"Global{kind}Pooling{rank}D" for kind in ("Average", "Max") for rank in (1, 2, 3)),
        _global_pool,
    ),
    "Dense": lambda config, shape, _: (*shape[:-1], int(config["units"])),
    "Embedding": lambda config, shape, _: (*shape, int(config["output_dim"])),
    "Flatten": lambda config, shape, _: (shape[0], elements(shape)),
    "Reshape": _reshape,
    "Concatenate": _concatenate,
    "UpSampling1D": _upsampled,
    "UpSampling2D": _upsampled,
    "Permute": lambda config, shape, _: (shape[0], *(shape[axis] for axis in config["dims"])),
    **{
        kind: lambda config, shape, _: (
            (shape[0], shape[1], int(config["units"]))
            if config.get("return_sequences")
            else (shape[0], int(config["units"]))
        )
        for kind in _GATES
    },
}


def _conv_macs(config: Config, inputs: Shapes, result: Shape | None) -> int | None:
    shape = inputs[0] or ()
    channels = shape[1] if _first(config) else shape[-1]
    kernel = math.prod(_window(config, "kernel_size", len(shape) - 2))
    return times(elements(result), channels and channels // int(config.get("groups") or 1), kernel)


def _transposed_macs(config: Config, inputs: Shapes, _: Shape | None) -> int | None:
    shape = inputs[0] or ()
    return times(elements(shape), math.prod(_window(config, "kernel_size", len(shape) - 2)), config["filters"])


def _depthwise_macs(config: Config, inputs: Shapes, result: Shape | None) -> int | None:
    return times(elements(result), math.prod(_window(config, "kernel_size", len(inputs[0] or ()) - 2)))


def _separable_macs(config: Config, inputs: Shapes, result: Shape | None) -> int | None:
    shape = inputs[0] or ()
    channels = times(shape[1] if _first(config) else shape[-1], config["depth_multiplier"])
    positions = elements(result)
    if positions is None:
        return None
    positions //= int(config["filters"])
    kernel = math.prod(_window(config, "kernel_size", len(shape) - 2))
    return times(positions, channels, kernel + int(config["filters"]))


def _attention_macs(config: Config, inputs: Shapes, _: Shape | None) -> int | None:
    query, value = inputs[0] or (), (inputs[1] if len(inputs) > 1 else inputs[0]) or ()
    if len(query) != 3 or len(value) != 3 or config.get("output_shape"):
        return None
    heads, key, wide = int(config["num_heads"]), int(config["key_dim"]), config.get("value_dim") or config["key_dim"]
    asked, seen = query[1], value[1]
    parts = (
        times(asked, query[2], heads * key),
        times(seen, value[2], heads * (key + int(wide))),
        times(asked, seen, heads * (key + int(wide))),
        times(asked, heads * int(wide), query[2]),
    )
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _einsum_macs(config: Config, inputs: Shapes, result: Shape | None) -> int | None:
    sides, _, _ = str(config["equation"]).partition("->")
    entry, _, weight = sides.partition(",")
    shape = inputs[0] or ()
    if "..." in entry or len(entry) != len(shape):
        return None
    output = str(config["equation"]).partition("->")[2]
    summed = [shape[entry.index(letter)] for letter in weight if letter in entry and letter not in output]
    return times(elements(result), *summed)


def _recurrent_macs(kind: str) -> Callable[[Config, Shapes, Shape | None], int | None]:
    def count(config: Config, inputs: Shapes, _: Shape | None) -> int | None:
        shape, units = inputs[0] or (), int(config["units"])
        width = shape[-1]
        return times(shape[1], _GATES[kind] * units, None if width is None else width + units)

    return count


def _bidirectional_macs(config: Config, inputs: Shapes, result: Shape | None) -> int | None:
    inner = config["layer"]
    return times(2, macs_of(inner["class_name"], inner["config"], inputs, result))


_MACS: dict[str, Callable[[Config, Shapes, Shape | None], int | None]] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "Conv3D"), _conv_macs),
    **dict.fromkeys(("DepthwiseConv1D", "DepthwiseConv2D"), _depthwise_macs),
    **dict.fromkeys(("SeparableConv1D", "SeparableConv2D"), _separable_macs),
    "Conv2DTranspose": _transposed_macs,
    "Dense": lambda config, inputs, result: times(elements(result), (inputs[0] or (None,))[-1]),
    "EinsumDense": _einsum_macs,
    "MultiHeadAttention": _attention_macs,
    "Bidirectional": _bidirectional_macs,
    **{kind: _recurrent_macs(kind) for kind in _GATES},
}
