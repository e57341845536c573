"""A network as anyone would draw it: tensors, ops in execution order, what they cost. The same for every format."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

Shape = tuple[int | None, ...]

# These write over their input where nobody else reads it: counted once.
_IN_PLACE_NAMES = """
    Activation BatchNormalization Dropout SpatialDropout2D ReLU LeakyReLU ELU PReLU Softmax Rescaling Reshape Flatten
    Identity Normalization GaussianNoise
    Relu LeakyRelu Elu PRelu Sigmoid Tanh HardSigmoid HardSwish Clip Squeeze Unsqueeze Dropout
    RELU RELU6 LOGISTIC TANH HARD_SWISH RESHAPE SQUEEZE EXPAND_DIMS SOFTMAX LEAKY_RELU
    BiasAdd FusedBatchNormV3 Relu6 ExpandDims
    """
_IN_PLACE = frozenset(_IN_PLACE_NAMES.split())
_BITS = {"bool": 8, "string": 0, "int4": 4, "int2": 2, "uint4": 4, "bfloat16": 16, "complex64": 64, "complex128": 128}


@dataclass(frozen=True)
class Tensor:
    """An activation. ``shape`` has the batch in front, None where a size is open; None altogether where unknown."""

    name: str
    shape: Shape | None
    dtype: str
    layout: str = ""

    @property
    def size_bytes(self) -> int | None:
        """Bytes at batch 1; None where a size besides the batch is open."""
        count = elements(self.shape)
        return None if count is None else (count * bits(self.dtype) + 7) // 8

    @property
    def shape_text(self) -> str:
        """The shape in brackets, ? for an open size."""
        if self.shape is None:
            return "of unknown shape"
        return f"({', '.join('?' if size is None else str(size) for size in self.shape)})"

    @property
    def dynamic_axes(self) -> tuple[int, ...]:
        return tuple(axis for axis, size in enumerate(self.shape or ()) if size is None)


@dataclass(frozen=True)
class Op:
    """One op or layer. ``macs``: multiply-accumulates at batch 1; None where they cannot be told from the file.

    ``activation``: of a Keras layer, which holds its own.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    macs: int | None = 0
    activation: str = ""


@dataclass(frozen=True)
class Network:
    """``tensors``: every activation by name. ``quantized``: what in it is, in words; empty for a float network.

    ``images``: the inputs that a .tflite made of it takes channels last, with their shapes there.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    ops: tuple[Op, ...]
    tensors: dict[str, Tensor]
    parameters: int | None = None
    weight_bytes: int | None = None
    quantized: str = ""
    version: str = ""
    custom_ops: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    images: Mapping[str, Shape] = field(default_factory=dict)

    @property
    def histogram(self) -> dict[str, int]:
        return dict(Counter(op.kind for op in self.ops).most_common())

    @property
    def macs(self) -> int | None:
        """Of all ops; None where that of one is unknown."""
        counted = [op.macs for op in self.ops if op.macs is not None]
        return sum(counted) if len(counted) == len(self.ops) else None

    @property
    def uncounted(self) -> tuple[str, ...]:
        return tuple(sorted({op.kind for op in self.ops if op.macs is None}))


def elements(shape: Shape | None) -> int | None:
    """Return the number of elements at batch 1, or None where another size is open."""
    if shape is None or any(size is None for size in shape[1:]):
        return None
    first = 1 if shape[:1] == (None,) else math.prod(size for size in shape[:1] if size is not None)
    return first * math.prod(size for size in shape[1:] if size is not None)


def bits(dtype: str) -> int:
    """Return the bits of one element, by the type's name: float32 is 32, int4 is 4."""
    if dtype in _BITS:
        return _BITS[dtype]
    digits = "".join(letter for letter in dtype if letter.isdigit())
    return int(digits) if digits else 32


def times(*factors: int | None) -> int | None:
    """Return the product, or None where a factor is unknown."""
    known = [factor for factor in factors if factor is not None]
    return math.prod(known) if len(known) == len(factors) else None


def peak_bytes(network: Network) -> int | None:
    """Return the most bytes of activations alive at once, run in the file's order; None where a size is open.

    A runtime that fuses ops needs less; its own workspace comes on top.
    """
    last = _last_reads(network)
    alive: dict[str, int] = {}
    for tensor in network.inputs:
        size = tensor.size_bytes
        if size is None:
            return None
        alive[tensor.name] = size
    now = peak = sum(alive.values())
    for position, op in enumerate(network.ops):
        dying = [name for name in dict.fromkeys(op.inputs) if name in alive and last.get(name) == position]
        if op.kind in _IN_PLACE and len(op.outputs) == 1 and dying:
            now -= alive.pop(dying.pop(0))
        for name in op.outputs:
            known = network.tensors.get(name)
            size = known.size_bytes if known else None
            if size is None:
                return None
            now += size - alive.get(name, 0)
            alive[name] = size
        peak = max(peak, now)
        for name in (*dying, *(name for name in op.outputs if name not in last)):
            now -= alive.pop(name, 0)
    return peak


def _last_reads(network: Network) -> dict[str, int]:
    last = {name: position for position, op in enumerate(network.ops) for name in op.inputs}
    return {**last, **{tensor.name: len(network.ops) for tensor in network.outputs}}


def image_layout(shape: Shape | None) -> str:
    """Return NHWC or NCHW where the sizes leave no doubt, else an empty text."""
    if shape is None or len(shape) != 4:
        return ""
    first, last = shape[1] in (1, 3, 4), shape[3] in (1, 3, 4)
    if first == last:
        return ""
    return "NCHW" if first else "NHWC"
