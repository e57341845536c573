"""Q/DQ files: what each target needs of them, that they run, and that they are the plan's."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphs
import pytest

from edgekit.convert import lint_tensorrt, onnx_quantized
from edgekit.convert.lint import RULES, lint
from edgekit.errors import StageError
from edgekit.quantize.calibrate import ranges_onnx
from edgekit.quantize.decide import decide
from edgekit.quantize.plan import Plan
from edgekit.runtimes import ort


def planned(proto: onnx.ModelProto, folder: Path, precision: str, scheme: str) -> tuple[bytes, Plan]:
    path = onnx_graphs.save(proto, folder)
    ranges = ranges_onnx(path, onnx_graphs.samples(proto))
    return path.read_bytes(), decide(path, "onnx", precision, scheme, ranges)


def run(content: bytes, folder: Path, sample: dict[str, Any]) -> Any:
    path = folder / "run.onnx"
    path.write_bytes(content)
    session = ort.open_model(str(path), 1)
    return session.run([sample[entry["name"]] for entry in session.inputs])[0]


GRAPHS = {
    "detector": onnx_graphs.detector,
    "attention": onnx_graphs.attention,
    "softmax": onnx_graphs.softmax_between,
}


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize(("precision", "scheme"), [("int8", "tensorrt"), ("int8", "cpu"), ("int8-weights", "cpu")])
def test_files_run_close_to_float(graph: str, precision: str, scheme: str, tmp_path: Path) -> None:
    proto = GRAPHS[graph]()
    content, plan = planned(proto, tmp_path, precision, scheme)
    quantized = onnx_quantized.emit(content, plan)
    for sample in onnx_graphs.samples(proto)[:2]:
        expected = run(content, tmp_path, sample)
        found = run(quantized, tmp_path, sample)
        # Three 8-bit layers in a row with 256 steps each: a few per cent of the largest value.
        assert np.abs(expected - found).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_tensorrt_file_breaks_no_tensorrt_rule(graph: str, tmp_path: Path) -> None:
    content, plan = planned(GRAPHS[graph](), tmp_path, "int8", "tensorrt")
    path = tmp_path / "trt.onnx"
    path.write_bytes(onnx_quantized.emit(content, plan))
    assert lint(path, "onnx", list(RULES)) == []


def test_the_tensorrt_file_has_int8_weights_and_float_bias(tmp_path: Path) -> None:
    content, plan = planned(onnx_graphs.detector(), tmp_path, "int8", "tensorrt")
    proto = onnx.load_from_string(onnx_quantized.emit(content, plan))
    kinds = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    assert kinds["w1_quantized"] == onnx.TensorProto.INT8
    assert kinds["b1"] == onnx.TensorProto.FLOAT
    scales = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    assert scales["w1_scale"].shape == (8,)


def test_the_last_convolutions_write_float_for_tensorrt(tmp_path: Path) -> None:
    content, plan = planned(onnx_graphs.detector(), tmp_path, "int8", "tensorrt")
    proto = onnx.load_from_string(onnx_quantized.emit(content, plan))
    quantized = {node.input[0] for node in proto.graph.node if node.op_type == "QuantizeLinear"}
    assert not quantized & {"box_map", "score_map", "boxes", "scores", "detections"}
    assert "pooled" in quantized or "r2" in quantized


def test_the_cpu_file_has_unsigned_activations(tmp_path: Path) -> None:
    content, plan = planned(onnx_graphs.detector(), tmp_path, "int8", "cpu")
    proto = onnx.load_from_string(onnx_quantized.emit(content, plan))
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if node.op_type == "QuantizeLinear":
            assert arrays[node.input[2]].dtype == np.uint8
    assert arrays["w1_quantized"].dtype == np.int8


def test_scales_are_the_plans_and_not_measured_again(tmp_path: Path) -> None:
    content, plan = planned(onnx_graphs.detector(), tmp_path, "int8", "tensorrt")
    wide = replace(plan, ranges={**plan.ranges, "r1": (0.0, 127.0)})
    proto = onnx.load_from_string(onnx_quantized.emit(content, wide))
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    assert arrays["r1_scale"] == pytest.approx(1.0)


def test_attention_uses_dynamic_integer_products_on_the_cpu(tmp_path: Path) -> None:
    content, plan = planned(onnx_graphs.attention(), tmp_path, "int8", "cpu")
    kinds = Counter(node.op_type for node in onnx.load_from_string(onnx_quantized.emit(content, plan)).graph.node)
    assert kinds["MatMulInteger"] == 4
    assert kinds["Softmax"] == 1
    assert kinds["MatMul"] == 2


def test_an_embedding_table_is_stored_in_int8(tmp_path: Path) -> None:
    proto = onnx_graphs.embedding()
    content, plan = planned(proto, tmp_path, "int8-weights", "cpu")
    quantized = onnx_quantized.emit(content, plan)
    kinds = {tensor.name: tensor.data_type for tensor in onnx.load_from_string(quantized).graph.initializer}
    assert "table" not in kinds
    assert kinds["table_quantized"] == onnx.TensorProto.UINT8
    ids = {"x": np.array([[0, 1, 7, 20, 39]], np.float32)}
    expected, found = run(content, tmp_path, ids), run(quantized, tmp_path, ids)
    # Half a step of 5/255 in eight products, and the activations' own steps.
    assert np.abs(expected - found).max() < 0.05 * np.abs(expected).max()


def test_same_plan_same_bytes(tmp_path: Path) -> None:
    for precision, scheme in (("int8", "tensorrt"), ("int8", "cpu"), ("int8-weights", "cpu")):
        content, plan = planned(onnx_graphs.detector(), tmp_path, precision, scheme)
        assert onnx_quantized.emit(content, plan) == onnx_quantized.emit(content, plan)


def test_a_plan_of_another_model_is_refused(tmp_path: Path) -> None:
    _, plan = planned(onnx_graphs.attention(), tmp_path, "int8", "cpu")
    other = onnx_graphs.save(onnx_graphs.detector(), tmp_path).read_bytes()
    with pytest.raises(StageError, match="names ops this model does not have"):
        onnx_quantized.emit(other, plan)
    with pytest.raises(StageError, match="tflite"):
        onnx_quantized.emit(other, replace(plan, format="tflite"))


def test_every_tensorrt_check_is_a_rule() -> None:
    assert lint_tensorrt.CHECKS.keys() <= RULES.keys()
