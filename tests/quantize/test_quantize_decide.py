"""What is quantized, what stays float, and the reason given, on graphs small enough to check by eye."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx_graphs
import pytest

from edgekit.convert import onnx_quantized
from edgekit.errors import StageError, UnsupportedError
from edgekit.quantize.calibrate import ranges_onnx
from edgekit.quantize.decide import decide, needs_calibration
from edgekit.quantize.plan import Plan
from edgekit.runtimes import open_model


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    return onnx_graphs.save(onnx_graphs.detector(), tmp_path)


@pytest.fixture
def ranges(detector: Path) -> dict[str, tuple[float, float]]:
    return ranges_onnx(detector, onnx_graphs.samples(onnx_graphs.detector()))


def reasons(plan: Plan) -> dict[str, tuple[str, str]]:
    return {decision.op: (decision.precision, decision.reason) for decision in plan.decisions}


def test_decoding_and_normalization_stay_float(detector: Path, ranges: dict[str, tuple[float, float]]) -> None:
    found = reasons(decide(detector, "onnx", "int8", "cpu", ranges))
    for op in ("boxes", "scores", "detections"):
        assert found[op] == ("float32", "output decoding")
    assert found["centred"] == ("float32", "input normalization")
    for op in ("c1", "r1", "c2", "sum", "r2", "pooled", "box_map", "score_map"):
        assert found[op] == ("int8", "")


def test_pixels_and_scores_never_share_a_scale(detector: Path, ranges: dict[str, tuple[float, float]]) -> None:
    plan = decide(detector, "onnx", "int8", "tensorrt", ranges)
    assert "detections" not in plan.ranges
    assert {"box_map", "score_map"} <= plan.ranges.keys()


def test_softmax_stays_float_for_tensorrt(tmp_path: Path) -> None:
    proto = onnx_graphs.softmax_between()
    path = onnx_graphs.save(proto, tmp_path)
    plan = decide(path, "onnx", "int8", "tensorrt", ranges_onnx(path, onnx_graphs.samples(proto)))
    assert reasons(plan)["s"] == ("float32", "TensorRT has no int8 softmax")


def test_attention_is_dynamic_without_being_asked(tmp_path: Path) -> None:
    path = onnx_graphs.save(onnx_graphs.attention(), tmp_path)
    assert not needs_calibration(path, "onnx", "int8", "cpu")
    plan = decide(path, "onnx", "int8", "cpu")
    assert plan.ops("int8-dynamic") == ("q", "k", "v", "y")
    assert any("attention" in note for note in plan.notes)


def test_a_convolution_in_front_of_attention_is_static(tmp_path: Path) -> None:
    """ONNX Runtime has no fast dynamic one, and with int8 weights alone it is slower than float."""
    proto = onnx_graphs.attention(patches=True)
    path = onnx_graphs.save(proto, tmp_path)
    assert needs_calibration(path, "onnx", "int8", "cpu")
    samples = onnx_graphs.samples(proto)
    plan = decide(path, "onnx", "int8", "cpu", ranges_onnx(path, samples))
    assert plan.ops("int8") == ("patches",)
    assert plan.ops("int8-dynamic") == ("q", "k", "v", "y")
    (tmp_path / "int8.onnx").write_bytes(onnx_quantized.emit(path.read_bytes(), plan))
    for sample in samples:
        ours, theirs = (open_model(file, "onnx").run([sample["image"]])[0] for file in (tmp_path / "int8.onnx", path))
        assert np.abs(ours - theirs).max() < 0.05 * np.abs(theirs).max()


def test_embeddings_are_int8_with_the_range_of_their_table(tmp_path: Path) -> None:
    path = onnx_graphs.save(onnx_graphs.embedding(), tmp_path)
    assert not needs_calibration(path, "onnx", "int8-weights", "cpu")
    plan = decide(path, "onnx", "int8-weights", "cpu")
    assert reasons(plan)["rows"] == ("int8", "")
    assert plan.ranges == {"rows": (-2.0, 3.0)}
    refused = decide(path, "onnx", "int8-weights", "tensorrt")
    assert reasons(refused)["rows"][0] == "float32"


def test_attention_for_tensorrt_quantizes_only_weighted_ops(tmp_path: Path) -> None:
    proto = onnx_graphs.attention()
    path = onnx_graphs.save(proto, tmp_path)
    plan = decide(path, "onnx", "int8", "tensorrt", ranges_onnx(path, onnx_graphs.samples(proto)))
    assert plan.ops("int8") == ("q", "k", "v", "y")


def test_convolutions_are_not_dynamic(detector: Path) -> None:
    plan = decide(detector, "onnx", "int8-weights", "cpu")
    assert plan.counts() == {"int8-weights": 4, "float32": 8}


def test_an_excluded_op_keeps_its_reason(detector: Path, ranges: dict[str, tuple[float, float]]) -> None:
    plan = decide(detector, "onnx", "int8", "cpu", ranges, exclude={"c1": "worst op by far"})
    assert reasons(plan)["c1"] == ("float32", "worst op by far")
    with pytest.raises(StageError, match="no op named c9"):
        decide(detector, "onnx", "int8", "cpu", ranges, exclude={"c9": ""})


def test_a_missing_range_is_named(detector: Path, ranges: dict[str, tuple[float, float]]) -> None:
    assert needs_calibration(detector, "onnx", "int8", "cpu")
    del ranges["sum"]
    with pytest.raises(StageError, match="'sum'"):
        decide(detector, "onnx", "int8", "cpu", ranges)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_range_that_is_not_finite_names_the_tensor(
    detector: Path, ranges: dict[str, tuple[float, float]], bad: float
) -> None:
    ranges["r1"] = (0.0, bad) if bad > 0 or math.isnan(bad) else (bad, 0.0)
    with pytest.raises(StageError, match="'r1'"):
        decide(detector, "onnx", "int8", "cpu", ranges)


def test_unknown_schemes_and_precisions_are_refused(detector: Path) -> None:
    with pytest.raises(UnsupportedError, match="litert"):
        decide(detector, "onnx", "int8", "litert")
    with pytest.raises(UnsupportedError, match="int4"):
        decide(detector, "onnx", "int4", "cpu")


def test_a_model_without_weights_has_nothing_to_quantize(tmp_path: Path) -> None:
    proto = onnx_graphs.model([onnx_graphs.helper.make_node("Relu", ["x"], ["y"])], {}, {"x": [1, 4]}, {"y": [1, 4]})
    path = onnx_graphs.save(proto, tmp_path)
    with pytest.raises(UnsupportedError, match="no op that can be quantized"):
        decide(path, "onnx", "int8", "cpu", {"x": (0.0, 1.0), "y": (0.0, 1.0)})


def test_a_broken_file_is_a_stage_error(tmp_path: Path) -> None:
    for format in ("onnx", "tflite"):
        path = tmp_path / f"broken.{format}"
        path.write_bytes(b"not a model at all, whatever its name says")
        with pytest.raises(StageError, match="not a readable"):
            decide(path, format, "int8")
