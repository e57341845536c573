"""Which ops have an int8 form worth using, per scheme, and how an op behaves under quantization.

The tables follow the kernels, not the quantizers: accepting an op does not make it fast or exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

# Ops that only move values: they keep the scale of their input, so quantizing them costs no accuracy.
MOVES = frozenset(
    {
        *(
            "RESHAPE",
            "TRANSPOSE",
            "SQUEEZE",
            "EXPAND_DIMS",
            "PAD",
            "PADV2",
            "MIRROR_PAD",
            "SLICE",
            "STRIDED_SLICE",
        ),
        *(
            "SPLIT",
            "PACK",
            "UNPACK",
            "GATHER",
            "GATHER_ND",
            "SPACE_TO_DEPTH",
            "DEPTH_TO_SPACE",
            "BROADCAST_TO",
        ),
        *("QUANTIZE", "DEQUANTIZE", "CAST", "SHAPE"),
        *(
            "Reshape",
            "Transpose",
            "Squeeze",
            "Unsqueeze",
            "Flatten",
            "Pad",
            "Slice",
            "Split",
            "Gather",
            "Identity",
        ),
        *("Expand", "SpaceToDepth", "DepthToSpace", "Cast", "Shape"),
    }
)

# Softmax and the pieces of a layer norm: their int8 forms are slow or too coarse everywhere we emit for.
_LITERT_INT8 = frozenset(
    {
        *("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL"),
        *("ADD", "SUB", "MUL", "MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D", "CONCATENATION", "RELU", "MAXIMUM"),
        *("LOGISTIC", "TANH", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"),
        *("RESHAPE", "TRANSPOSE", "PAD", "PADV2", "MIRROR_PAD", "SLICE", "STRIDED_SLICE", "SPLIT", "PACK"),
        *("UNPACK", "SPACE_TO_DEPTH"),
    }
)
_ONNX_INT8 = frozenset(
    {
        *(
            "Conv",
            "Gemm",
            "MatMul",
            "Add",
            "Relu",
            "Clip",
            "MaxPool",
            "AveragePool",
            "GlobalAveragePool",
            "Concat",
        ),
        *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Resize", "Slice", "Split", "Pad"),
    }
)


@dataclass(frozen=True)
class Scheme:
    """What one family of kernels offers: static int8, ops kept float, dynamic int8, tables.

    ``hazards``: kinds among the refused that have an int8 kernel; whether they lose too much depends on the network,
    and whether they gain is timed, so there are none for a runtime that is not here.
    ``follows``: kinds that are int8 where every op that reads them is, and float otherwise.
    ``int16``: kinds that run with 16-bit activations, at whatever speed.
    ``int4``: kinds whose weights may be 4 bits, with activations quantized while running.
    ``unpacks_once``: int8 weights of a float op become float when the file is loaded, not at every call.
    """

    name: str
    format: str
    int8: frozenset[str]
    refused: dict[str, str]
    dynamic: frozenset[str]
    int8_tables: bool
    hazards: frozenset[str] = frozenset()
    follows: frozenset[str] = frozenset()
    int16: frozenset[str] = frozenset()
    int4: frozenset[str] = frozenset()
    unpacks_once: bool = False

    def with_hazards(self) -> Scheme:
        refused = {kind: reason for kind, reason in self.refused.items() if kind not in self.hazards}
        return replace(self, refused=refused, int8=self.int8 | self.hazards)


SCHEMES = {
    "litert": Scheme(
        "litert",
        "tflite",
        _LITERT_INT8,
        {
            "SOFTMAX": "softmax in int8 has 256 steps for all probabilities",
            "HARD_SWISH": "hard-swish loses small channels in int8",
        },
        # XNNPACK has no dynamic depthwise kernel: the reference kernel is several times slower than float.
        frozenset({"CONV_2D", "FULLY_CONNECTED", "BATCH_MATMUL"}),
        int8_tables=True,
        hazards=frozenset({"HARD_SWISH"}),
        int16=frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}),
        int4=frozenset({"FULLY_CONNECTED"}),  # convolutions of 4 bits run several times slower
        unpacks_once=True,
    ),
    "tensorrt": Scheme(
        "tensorrt",
        "onnx",
        _ONNX_INT8 | {"ConvTranspose"},
        {
            "Softmax": "TensorRT has no int8 softmax",
            "Mul": "gates lose small channels in int8",
            "Sigmoid": "gates lose small channels in int8",
        },
        frozenset(),  # DynamicQuantizeLinear is refused by the parser
        int8_tables=False,
    ),
    "cpu": Scheme(
        "cpu",
        "onnx",
        _ONNX_INT8,
        {
            "Softmax": "softmax in int8 has 256 steps for all probabilities",
            "Mul": "gates lose small channels in int8",
            "Sigmoid": "gates lose small channels in int8",
        },
        # ONNX Runtime's dynamic convolution is 5 to 11 times slower than float.
        frozenset({"MatMul"}),
        int8_tables=True,
        hazards=frozenset({"Mul", "Sigmoid"}),
        follows=frozenset({"HardSigmoid"}),
    ),
}
DEFAULT_SCHEME = {"tflite": "litert", "onnx": "cpu"}
