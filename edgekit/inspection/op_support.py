"""Which layers of Keras and ops of TensorFlow become TFLite and ONNX alike; of others the converters are asked.

Left out are those that convert or not with what stands around them: the error function inside an exact gelu.
``tests/inspection/test_op_support.py`` converts every one of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgekit.inspection.network import Network

_LAYERS = """
    Activation ActivityRegularization Add AdditiveAttention AlphaDropout Attention Average AveragePooling1D
    AveragePooling2D BatchNormalization Bidirectional CenterCrop Concatenate Conv1D Conv1DTranspose Conv2D
    Conv2DTranspose Conv3D ConvLSTM2D Cropping1D Cropping2D Dense DepthwiseConv1D DepthwiseConv2D Dot Dropout ELU
    EinsumDense Embedding Flatten GRU GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D
    GlobalMaxPooling1D GlobalMaxPooling2D GroupNormalization Identity InputLayer LSTM LayerNormalization LeakyReLU
    Masking MaxPooling1D MaxPooling2D Maximum Minimum MultiHeadAttention Multiply Normalization PReLU Permute
    RMSNormalization ReLU RepeatVector Rescaling Reshape Resizing SeparableConv1D SeparableConv2D SimpleRNN Softmax
    SpatialDropout1D SpatialDropout2D Subtract TimeDistributed UnitNormalization UpSampling1D UpSampling2D
    ZeroPadding1D ZeroPadding2D
    """
_ACTIVATIONS = """
    elu exponential glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh leaky_relu linear log_sigmoid
    log_softmax mish relu relu6 selu sigmoid silu soft_shrink softmax softplus softsign sparse_plus sparsemax
    squareplus swish tanh tanh_shrink
    """
# Classes of keras.ops, which stand in a functional model as layers do.
_FUNCTIONS = """
    Absolute Add Arctan2 Cast Clip Concatenate Cos Cumsum Divide DotProductAttention Einsum Exp ExpandDims
    ExtractPatches Flip Floor Gelu GetItem Greater HardSigmoid HardSilu Log LogSoftmax Logsumexp Matmul Max Maximum
    Mean Min Minimum Moveaxis Multiply Negative Norm Normalize Pad Power Prod Relu Relu6 Repeat Reshape Resize Roll
    Round Rsqrt Sigmoid Sign Silu Sin Softmax Softplus Sort Split Sqrt Square Squeeze Stack Std Subtract Sum
    Swapaxes Take Tanh Tile TopK Transpose TrueDivide Var Where
    """
_OPS = """
    Abs Add AddN AddV2 Any Atan2 AvgPool BatchMatMulV2 BiasAdd Cast ConcatV2 Conv2D Conv2DBackpropInput Conv3D Cos
    Cumsum DepthwiseConv2dNative Einsum Elu Exp ExpandDims Floor FusedBatchNormV3 GatherV2 Greater IdentityN
    IsFinite LeakyRelu Less LessEqual Log LogSoftmax MatMul MatrixDiagV3 Max MaxPool Maximum Mean Min Minimum Mul
    Neg NotEqual Pack Pad Pow Prod Range RealDiv Relu Relu6 Reshape ResizeBilinear ResizeNearestNeighbor ReverseV2
    Roll Round Rsqrt SelectV2 Selu Shape Sigmoid Sign Sin Softmax Softplus Softsign Split Sqrt Square
    SquaredDifference Squeeze StopGradient StridedSlice Sub Sum Tanh Tile TopKV2 Transpose Unpack
    """


@dataclass(frozen=True)
class Missing:
    """What a converter said of one format: the places of each op that it lacks, or why nothing is converted."""

    ops: Mapping[str, Sequence[str]] = field(default_factory=dict)
    failure: str = ""


ORDINARY = {
    "keras": frozenset((_LAYERS + _FUNCTIONS).split()),
    "saved_model": frozenset(_OPS.split()),
}
ORDINARY_ACTIVATIONS = frozenset(_ACTIVATIONS.split())
# What helps with an op that a format lacks, where there is more to say than that.
HELP = {
    **dict.fromkeys(("Erf", "Erfc"), "gelu with approximate=True needs no such op"),
    **dict.fromkeys(
        ("BitwiseAnd", "Bitcast"),
        "keras.ops.argmax is made of it: give out what it reads, and take the largest outside the network",
    ),
    "Log1p": "write log(1 + x)",
    "Expm1": "write exp(x) - 1",
}


def is_ordinary(network: Network, format: str) -> bool:
    """Tell whether all of a Keras model or SavedModel is known to convert; if not, only the converters know."""
    kinds = ORDINARY["saved_model" if format == "saved_model" else "keras"]
    return all(
        op.kind in kinds and (not op.activation or op.activation.lower() in ORDINARY_ACTIVATIONS) for op in network.ops
    )
