"""Small networks in the formats that a page runs: float, int8 inside, int8 at the borders too."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
from ai_edge_quantizer import qtyping, quantizer
from ai_edge_quantizer import recipe as quantizer_recipe
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

sys.path += [str(Path(__file__).parents[1] / "quantize")]
import onnx_graphs
import tflite_graphs

INPUT = (1, 16, 16, 3)


def samples(count: int = 4) -> list[np.ndarray]:
    draw = np.random.default_rng(1)
    return [draw.random(INPUT, np.float32) for _ in range(count)]


def write_tflite(path: Path, shape: tuple[int, int, int, int] = INPUT) -> Path:
    """Two convolutions, a pool and a dense layer: x -> y0 of 10 classes, all float. ``shape`` is NHWC."""
    draw = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return draw.normal(0, 0.3, shape).astype(np.float32)

    _, height, width, channels = shape
    flat = height // 2 * (width // 2) * 8
    net = tflite_graphs.Network(shape)
    data = net.conv(net.x, net.constant("w1", weights(8, 3, 3, channels)), net.constant("b1", weights(8)))
    data = net.pool(net.conv(data, net.constant("w2", weights(8, 3, 3, 8)), net.constant("b2", weights(8))))
    data = net.reshape(data, (1, flat))
    dense = net.dense(data, net.constant("w3", weights(10, flat)), net.constant("b3", weights(10)), tflite_graphs.NONE)
    return net.save(path, dense)


def quantize_tflite(model: Path, path: Path, *, float_io: bool) -> Path:
    """Write it as int8; with ``float_io`` only inside."""
    tool = quantizer.Quantizer(str(model), quantizer_recipe.static_wi8_ai8())
    if float_io:
        for name in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            tool.update_quantization_recipe(".*", name, algorithm_key="no_quantize")
    with warnings.catch_warnings():  # calibration keeps every tensor, and says so
        warnings.simplefilter("ignore", UserWarning)
        ranges = tool.calibrate({"serving_default": [{"x": sample} for sample in samples()]})
        path.write_bytes(tool.quantize(ranges).quantized_model)
    return path


def write_onnx(path: Path) -> Path:
    onnx.save(onnx_graphs.detector(), str(path))
    return path


def quantize_onnx(model: Path, path: Path) -> Path:
    """Write it with uint8 activations and int8 weights between Q/DQ pairs."""
    draw = np.random.default_rng(1)

    class Reader(CalibrationDataReader):
        feeds = iter([{"image": draw.random((1, 3, 8, 8), np.float32)} for _ in range(4)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    quantize_static(
        str(model), str(path), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return path
