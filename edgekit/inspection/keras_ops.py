"""What Keras layers and TensorFlow ops become in TFLite and in ONNX, as far as precision is concerned.

Left out is what conversion folds into its neighbour (batch normalization, the activation of a convolution).
"""

from __future__ import annotations

Kinds = tuple[str, ...]

_CONV: tuple[Kinds, Kinds] = (("CONV_2D",), ("Conv",))
_DENSE: tuple[Kinds, Kinds] = (("FULLY_CONNECTED",), ("MatMul",))
_NORM: tuple[Kinds, Kinds] = (("SQUARED_DIFFERENCE", "RSQRT"), ("Sqrt", "Reciprocal"))
_GATED: tuple[Kinds, Kinds] = (("FULLY_CONNECTED", "LOGISTIC", "TANH", "MUL"), ("MatMul", "Sigmoid", "Tanh", "Mul"))

LAYERS: dict[str, tuple[Kinds, Kinds]] = {
    **dict.fromkeys(("Conv1D", "Conv2D", "SeparableConv1D", "SeparableConv2D"), _CONV),
    **dict.fromkeys(
        ("DepthwiseConv1D", "DepthwiseConv2D", "DepthwiseConv2dNative"),
        (("DEPTHWISE_CONV_2D",), ("Conv",)),
    ),
    **dict.fromkeys(
        ("Conv1DTranspose", "Conv2DTranspose", "Conv2DBackpropInput"), (("TRANSPOSE_CONV",), ("ConvTranspose",))
    ),
    **dict.fromkeys(("Dense", "EinsumDense", "MatMul"), _DENSE),
    **dict.fromkeys(("LayerNormalization", "GroupNormalization", "UnitNormalization", "RMSNormalization"), _NORM),
    **dict.fromkeys(("LSTM", "GRU", "SimpleRNN", "Bidirectional"), _GATED),
    "MultiHeadAttention": (("FULLY_CONNECTED", "BATCH_MATMUL", "SOFTMAX"), ("MatMul", "Softmax")),
    **dict.fromkeys(("Attention", "AdditiveAttention"), (("BATCH_MATMUL", "SOFTMAX"), ("MatMul", "Softmax"))),
    **dict.fromkeys(("BatchMatMulV2", "BatchMatMulV3"), (("BATCH_MATMUL",), ("MatMul",))),
    **dict.fromkeys(("Add",), (("ADD",), ("Add",))),
    **dict.fromkeys(("Multiply", "Rescaling"), (("MUL",), ("Mul",))),
    **dict.fromkeys(("Subtract",), (("SUB",), ("Sub",))),
    **dict.fromkeys(("Concatenate", "ConcatV2"), (("CONCATENATION",), ("Concat",))),
    **dict.fromkeys(("Maximum",), (("MAXIMUM",), ("Max",))),
    **dict.fromkeys(("Minimum",), (("MINIMUM",), ("Min",))),
    **dict.fromkeys(("MaxPooling2D", "MaxPool"), (("MAX_POOL_2D",), ("MaxPool",))),
    **dict.fromkeys(("AveragePooling2D", "AvgPool"), (("AVERAGE_POOL_2D",), ("AveragePool",))),
    **dict.fromkeys(("GlobalAveragePooling1D", "GlobalAveragePooling2D", "Mean"), (("MEAN",), ("GlobalAveragePool",))),
    **dict.fromkeys(("GlobalMaxPooling1D", "GlobalMaxPooling2D", "Max"), (("REDUCE_MAX",), ("ReduceMax",))),
    **dict.fromkeys(("UpSampling2D", "Resizing", "ResizeBilinear"), (("RESIZE_BILINEAR",), ("Resize",))),
    "ResizeNearestNeighbor": (("RESIZE_NEAREST_NEIGHBOR",), ("Resize",)),
    "Softmax": (("SOFTMAX",), ("Softmax",)),
    "LeakyReLU": (("LEAKY_RELU",), ("LeakyRelu",)),
    "PReLU": (("PRELU",), ("PRelu",)),
    "ELU": (("ELU",), ("Elu",)),
    "Embedding": (("GATHER",), ("Gather",)),
}  # fmt: skip

ACTIVATIONS: dict[str, tuple[Kinds, Kinds]] = {
    "softmax": (("SOFTMAX",), ("Softmax",)),
    "sigmoid": (("LOGISTIC",), ("Sigmoid",)),
    "tanh": (("TANH",), ("Tanh",)),
    "silu": (("LOGISTIC", "MUL"), ("Sigmoid", "Mul")),
    "swish": (("LOGISTIC", "MUL"), ("Sigmoid", "Mul")),
    "hard_swish": (("HARD_SWISH",), ("HardSwish",)),
    "hard_silu": (("HARD_SWISH",), ("HardSwish",)),
    "hard_sigmoid": (("MUL",), ("HardSigmoid",)),
    "gelu": (("GELU",), ("Erf",)),
    "elu": (("ELU",), ("Elu",)),
    "selu": (("ELU",), ("Selu",)),
    "softplus": (("EXP",), ("Softplus",)),
    "leaky_relu": (("LEAKY_RELU",), ("LeakyRelu",)),
}


def becomes(kind: str, activation: str, format: str) -> Kinds:
    """Return the ops of ``format`` that one layer becomes; empty for a layer that this table leaves out."""
    side = 0 if format == "tflite" else 1
    nothing: tuple[Kinds, Kinds] = ((), ())
    return LAYERS.get(kind, nothing)[side] + ACTIVATIONS.get(activation.lower(), nothing)[side]
