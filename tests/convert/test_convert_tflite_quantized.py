"""int8 TFLite from a plan: float at the ends, the plan's precisions inside, accepted by XNNPACK."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from dataclasses import replace
from pathlib import Path
from typing import Any

import convert_models as models
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from edgekit.convert import float_graph, package, parity, tflite_quantized
from edgekit.convert.lint import RULES, lint
from edgekit.errors import StageError, UnsupportedError
from edgekit.quantize.calibrate import ranges_tflite
from edgekit.quantize.decide import decide
from edgekit.quantize.plan import Plan

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # TensorFlow's
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Case:
    """A model, its float file and its calibrated plan."""

    def __init__(self, folder: Path) -> None:
        self.model = models.detector()
        self.inputs = models.samples(self.model, 6)
        self.folder = folder
        self.float = models.check_chain(self.model, "tflite", folder)
        self.path = folder / "float.tflite"
        self.path.write_bytes(self.float)
        self.reference = float_graph.reference(self.model, self.inputs)
        self.ranges = ranges_tflite(self.path, ({"image": self.inputs["image"][i : i + 1]} for i in range(6)))

    def plan(self, precision: str = "int8", **options: Any) -> Plan:
        return decide(self.path, "tflite", precision, ranges=self.ranges, **options)

    def error(self, content: bytes) -> parity.Parity:
        outputs = models.outputs_of(content, "tflite", self.inputs, self.folder)
        return parity.compare(self.reference, outputs, 0.05)  # five 8-bit layers


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("detector"))


def tensors(content: bytes) -> dict[str, Any]:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    return {tensor.name.decode(): tensor for tensor in model.subgraphs[0].tensors}


def test_ranges_are_those_of_the_data(case: Case) -> None:
    low, high = case.ranges[next(name for name in case.ranges if "image" in name)]
    assert (low, high) == (float(case.inputs["image"].min()), float(case.inputs["image"].max()))


def test_int8_runs_close_to_the_float_model(case: Case) -> None:
    content = tflite_quantized.emit(case.path, case.plan())
    found = case.error(content)
    assert found.passed, found.problem
    assert found.max_error > 1e-6  # it really computes in other numbers
    assert len(content) < len(case.float)


def test_inputs_and_outputs_stay_float(case: Case) -> None:
    path = case.folder / "int8.tflite"
    path.write_bytes(tflite_quantized.emit(case.float, case.plan()))
    assert lint(path, "tflite", list(RULES)) == []
    inputs, outputs = package.tensor_specs(path, "tflite")
    assert [(spec.name, spec.dtype) for spec in inputs] == [("image", "float32")]
    assert {(spec.name, spec.dtype) for spec in outputs} == {("boxes", "float32"), ("scores", "float32")}


def test_weights_are_int8_per_channel(case: Case) -> None:
    quantized = tensors(tflite_quantized.emit(case.float, case.plan()))
    kernels = [t for t in quantized.values() if t.type == schema.TensorType.INT8 and len(t.shape or []) == 4]
    sizes = {len(t.quantization.scale) for t in kernels if t.quantization is not None}
    assert {8, 4, 2} <= sizes


def test_decoding_stays_float(case: Case) -> None:
    plan = case.plan()
    quantized = tensors(tflite_quantized.emit(case.float, plan))
    decoding = [decision.op for decision in plan.decisions if decision.reason == "output decoding"]
    assert decoding
    assert {quantized[name].type for name in decoding} == {schema.TensorType.FLOAT32}


def test_an_excluded_op_really_stays_float(case: Case) -> None:
    first = case.plan().ops("int8")[0]
    plan = case.plan(exclude={first: "sensitive"})
    quantized = tensors(tflite_quantized.emit(case.float, plan))
    assert quantized[first].type == schema.TensorType.FLOAT32
    assert tflite_quantized.emit(case.float, plan) != tflite_quantized.emit(case.float, case.plan())
    assert case.error(tflite_quantized.emit(case.float, plan)).passed


def test_weights_need_no_ranges(case: Case) -> None:
    plan = decide(case.path, "tflite", "int8-weights")
    assert plan.ranges == {}
    found = case.error(tflite_quantized.emit(case.float, plan))
    assert found.passed, found.problem


def test_weight_only_ops_can_be_mixed_with_static_ones(case: Case) -> None:
    plan = case.plan()
    last = next(decision for decision in reversed(plan.decisions) if decision.kind == "CONV_2D")
    mixed = replace(
        plan,
        decisions=tuple(replace(d, precision="int8-weights") if d == last else d for d in plan.decisions),
    )
    quantized = tensors(tflite_quantized.emit(case.float, mixed))
    assert quantized[last.op].type == schema.TensorType.FLOAT32
    assert case.error(tflite_quantized.emit(case.float, mixed)).passed


def test_a_tensor_that_never_changes_is_no_division_by_zero(case: Case) -> None:
    flat = replace(case.plan(), ranges=dict.fromkeys(case.plan().ranges, (0.0, 0.0)))
    outputs = models.outputs_of(tflite_quantized.emit(case.float, flat), "tflite", case.inputs, case.folder)
    assert all(np.isfinite(values).all() for values in outputs.values())


def test_same_plan_same_bytes_also_through_json(case: Case) -> None:
    plan = case.plan()
    content = tflite_quantized.emit(case.float, plan)
    assert tflite_quantized.emit(case.float, Plan.from_json(plan.to_json())) == content


def test_metadata_keeps_the_buffers_aligned(case: Case) -> None:
    content = tflite_quantized.emit(case.float, case.plan())
    packed = package.embed(content, "tflite", {"labels": ["a"]})
    model = schema.Model.GetRootAs(packed, 0)
    offsets = []
    for i in range(model.BuffersLength()):
        buffer = model.Buffers(i)
        if buffer.DataLength():
            offsets.append(buffer._tab.Vector(buffer._tab.Offset(4)))
    assert offsets
    assert all(offset % 16 == 0 for offset in offsets)  # the schema's force_align: kernels read 16 bytes at once
    found = case.error(packed)
    assert found.passed, found.problem


def test_plans_of_other_models_are_refused(case: Case) -> None:
    plan = case.plan()
    stranger = replace(plan.decisions[0], op="nowhere", precision="int8")
    with pytest.raises(StageError, match="nowhere"):
        tflite_quantized.emit(case.float, replace(plan, decisions=(*plan.decisions, stranger)))
    with pytest.raises(StageError, match="onnx"):
        tflite_quantized.emit(case.float, replace(plan, format="onnx"))


def test_a_precision_the_op_cannot_have_is_refused(case: Case) -> None:
    plan = case.plan()
    pool = next(decision for decision in plan.decisions if decision.kind == "MAX_POOL_2D")
    wrong = tuple(replace(d, precision="int8-dynamic") if d == pool else d for d in plan.decisions)
    with pytest.raises(UnsupportedError, match="MAX_POOL_2D cannot be int8-dynamic"):
        tflite_quantized.emit(case.float, replace(plan, decisions=wrong))
