"""How far a device's float outputs may be off: by what the file computes, and where."""

from __future__ import annotations

from pathlib import Path

import onnx.parser
import pytest
from tiny_tflite import write_add_relu

from edgekit.profile.reference import FLOAT_TOLERANCE, INT8_TAIL_TOLERANCE, INT8_TOLERANCE, expected_tolerance

FLOAT = "y = Relu(x)"
STRAIGHT = "q = QuantizeLinear(x, s, z)  y = DequantizeLinear(q, s, z)"
TAIL = "q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  y = Softmax(d)"


@pytest.mark.parametrize(
    ("body", "tolerance"), [(FLOAT, FLOAT_TOLERANCE), (STRAIGHT, INT8_TOLERANCE), (TAIL, INT8_TAIL_TOLERANCE)]
)
def test_onnx(tmp_path: Path, body: str, tolerance: float) -> None:
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1,4] x) => (float[1,4] y) <float s = {{0.1}}, uint8 z = {{0}}> {{ {body} }}"""
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    assert expected_tolerance(tmp_path / "model.onnx", "onnx") == tolerance


def test_tflite(tmp_path: Path) -> None:
    assert expected_tolerance(write_add_relu(tmp_path / "model.tflite"), "tflite") == FLOAT_TOLERANCE
