"""Files of any origin, refusals, the time limit, and what the result says beside the causes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import faults
import numpy as np
import onnx
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from diagnosing import PREPROCESS, diagnose
from faults import Fault
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from edgekit.dataset import Boxes
from edgekit.diagnose import output_blame
from edgekit.diagnose.agreement import agreement
from edgekit.diagnose.causes import SMALL_BLAME
from edgekit.diagnose.labels import against_labels
from edgekit.diagnose.run import run
from edgekit.diagnose.schema import Diagnosis, Finding
from edgekit.errors import RecipeError, StageError
from edgekit.runtimes import open_model

FORMATS = ("tflite", "onnx")


class Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, fault: Fault) -> None:
        self.rest = iter(fault.calibration)

    def get_next(self) -> faults.Sample | None:
        return next(self.rest, None)


def by_onnxruntime(fault: Fault, folder: Path, *, per_channel: bool, form: QuantFormat = QuantFormat.QDQ) -> Path:
    path = folder / "theirs.onnx"
    quantize_static(
        str(fault.float_file), str(path), Reader(fault), quant_format=form, per_channel=per_channel,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    return path


def large(diagnosis: Diagnosis) -> list[Finding]:
    return [finding for finding in diagnosis.findings if finding.blame >= SMALL_BLAME]


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator], ids=["QDQ", "QOperator"])
def test_a_file_of_onnxruntime_is_read_as_well(form: QuantFormat, tmp_path: Path) -> None:
    fault = faults.healthy("onnx", tmp_path)
    diagnosis = diagnose(
        fault.float_file, by_onnxruntime(fault, tmp_path, per_channel=True, form=form), fault.evaluation, tmp_path
    )
    matched = {layer.tensor for layer in diagnosis.layers if layer.scale}
    assert matched >= {"stem", "depthwise", "pointwise", "body", "boxes", "logits"}
    assert all(layer.sqnr_db is not None and layer.sqnr_db > 30 for layer in diagnosis.layers)
    assert large(diagnosis) == []


def test_one_scale_for_all_filters_is_named(tmp_path: Path) -> None:
    fault = faults.uneven_channels("onnx", tmp_path)
    diagnosis = diagnose(
        fault.float_file, by_onnxruntime(fault, tmp_path, per_channel=False), fault.evaluation, tmp_path
    )
    assert [finding.cause for finding in large(diagnosis)] == [*["per-tensor-weights"] * 2, "uneven-channels"]
    assert {"stem/linear", "depthwise/linear"} == {finding.where[0] for finding in diagnosis.findings[:2]}
    assert any("depthwise filters" in finding.proof for finding in diagnosis.findings[:2])


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # the quantizer's: it wraps around
def test_a_bias_beyond_int32_is_named(tmp_path: Path) -> None:
    """A channel with weights near 0 has a scale near 0, in steps of which its bias does not fit."""
    network = faults.detector()
    weights, bias = network.nodes[2].weights
    weights[3], bias[3] = 1e-9 * weights[3], 3.0
    fault = faults.fault_of("dead-channels", "tflite", tmp_path, network)
    diagnosis = diagnose(fault.float_file, faults.quantize(fault, tmp_path), fault.evaluation, tmp_path)
    assert diagnosis.findings[0].cause == "dead-channels"
    assert diagnosis.findings[0].where == ["pointwise"]
    assert "its bias 3 is held as -" in diagnosis.findings[0].proof


def test_a_rare_value_that_stretches_a_range_is_named(tmp_path: Path) -> None:
    """One calibration image holds a pixel 200 times too bright."""
    fault = faults.healthy("onnx", tmp_path)
    hot = {"image": fault.calibration[0]["image"].copy()}
    hot["image"][0, :, 8, 8] = 200.0
    artifact = faults.quantize(replace(fault, calibration=[*fault.calibration, hot]), tmp_path)
    first = diagnose(fault.float_file, artifact, fault.evaluation, tmp_path).findings[0]
    assert first.cause == "calibration-unlike-data"
    assert "can hold 0 .. 200, the samples reach 0 .. 1" in first.proof
    first = diagnose(fault.float_file, artifact, [*fault.evaluation, hot], tmp_path).findings[0]
    assert (first.cause, first.where) == ("outlier-value", ["image"])


@pytest.mark.parametrize("format", FORMATS)
def test_weights_of_another_model_are_named(format: str, tmp_path: Path) -> None:
    fault = faults.healthy(format, tmp_path)
    network = faults.detector()
    weights, bias = network.nodes[3].weights
    network.nodes[3] = replace(network.nodes[3], weights=(weights[::-1].copy(), bias))
    other = replace(fault, source=network.write(tmp_path / f"other.{format}", format))
    first = diagnose(fault.float_file, faults.quantize(other, tmp_path), fault.evaluation, tmp_path).findings[0]
    assert first.cause == "other-weights"
    assert first.where[0] in ("body", "body/linear")


def test_a_file_that_a_kernel_refuses_is_still_explained(tmp_path: Path) -> None:
    """LiteRT refuses an int8 hard-swish whose output is far smaller than its input."""
    fault = faults.wide_hard_swish("tflite", tmp_path, top=-2.0)
    diagnosis = diagnose(fault.float_file, faults.quantize(fault, tmp_path), fault.evaluation, tmp_path)
    refused = diagnosis.findings[0]
    assert (refused.cause, refused.harm, refused.where) == ("does-not-run", "fails", ["swish"])
    assert "-3.1" in refused.cure
    assert "hard-swish" in {finding.cause for finding in diagnosis.findings}
    assert diagnosis.outputs == []
    assert any(layer.output_error for layer in diagnosis.layers)


def test_what_the_delegate_refuses_is_named(tmp_path: Path) -> None:
    """XNNPACK takes no zero point beyond int8; the reference kernels do not look."""
    fault = faults.healthy("tflite", tmp_path)
    artifact = faults.quantize(fault, tmp_path)
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(artifact.read_bytes()))
    main = model.subgraphs[0]
    next(tensor for tensor in main.tensors if tensor.name == b"pointwise").quantization.zeroPoint = [500]
    flatbuffer_utils.write_model(model, str(artifact))
    diagnosis = diagnose(fault.float_file, artifact, fault.evaluation, tmp_path)
    first = diagnosis.findings[0]
    assert (first.cause, first.harm, first.where) == ("delegate-refuses", "fails", ["pointwise"])
    assert "XNNPACK" in first.proof
    assert len(diagnosis.layers) > 5


def test_a_file_that_aborts_the_process_is_still_explained(tmp_path: Path) -> None:
    """LiteRT's int8 addition checks its scales and ends the process with SIGABRT where they do not fit."""
    network = faults.detector()
    body, boxes = network.nodes[3:5]
    network.nodes = network.nodes[:4]
    branch = network.conv("body", body.weights[0][:, :1, :1], body.weights[1], "branch")
    network.outputs = [network.conv(network.add("body", branch, "sum"), *boxes.weights, "boxes", relu=False)]
    fault = faults.fault_of("", "tflite", tmp_path, network)
    artifact = faults.quantize(fault, tmp_path)
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(artifact.read_bytes()))
    next(tensor for tensor in model.subgraphs[0].tensors if tensor.name == b"sum").quantization.scale = [1e-12]
    flatbuffer_utils.write_model(model, str(artifact))
    diagnosis = diagnose(fault.float_file, artifact, fault.evaluation, tmp_path)
    aborted, first, *_ = diagnosis.findings
    assert (aborted.cause, aborted.harm) == ("does-not-run", "fails")
    assert "SIGABRT" in aborted.proof
    assert "the next cause" in aborted.cure
    assert first.where[0] == "sum"


def test_an_onnx_file_that_does_not_load_is_still_explained(tmp_path: Path) -> None:
    fault = faults.wrong_normalization("onnx", tmp_path)
    proto = onnx.load(str(faults.quantize(fault, tmp_path)))
    body = next(node for node in proto.graph.node if node.op_type == "Conv" and "body" in node.output)
    next(attribute for attribute in body.attribute if attribute.name == "group").i = 5
    onnx.save(proto, str(tmp_path / "broken.onnx"))
    diagnosis = diagnose(fault.float_file, tmp_path / "broken.onnx", fault.evaluation, tmp_path)
    assert [finding.cause for finding in diagnosis.findings[:2]] == ["does-not-run", fault.cause]


def test_a_damaged_file_is_an_error_of_the_file(tmp_path: Path) -> None:
    fault = faults.healthy("onnx", tmp_path)
    proto = onnx.load(str(faults.quantize(fault, tmp_path)))
    for tensor in proto.graph.initializer:
        if tensor.name == "body/bias_quantized":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(5, np.int32), tensor.name))
    onnx.save(proto, str(tmp_path / "damaged.onnx"))
    with pytest.raises(StageError, match=r"damaged\.onnx is not a readable onnx file"):
        diagnose(fault.float_file, tmp_path / "damaged.onnx", fault.evaluation, tmp_path)


def test_islands_of_one_kind_are_one_finding(tmp_path: Path) -> None:
    network = faults.detector()
    network.nodes, boxes = network.nodes[:2], network.nodes[4]
    random = np.random.default_rng(0)
    x = "depthwise"
    for name in ("first", "second"):
        x = network.unary("elu", x, f"{name}/elu")
        weights = random.normal(0, 0.2, (16, 1, 1, 16)).astype(np.float32)
        x = network.conv(x, weights, np.zeros(16, np.float32), name)
    network.outputs = [network.conv(x, boxes.weights[0][..., :16], boxes.weights[1], "boxes", relu=False)]
    fault = faults.fault_of("float-island", "onnx", tmp_path, network)
    diagnosis = diagnose(fault.float_file, faults.quantize(fault, tmp_path), fault.evaluation, tmp_path, seconds=0)
    [island] = [finding for finding in diagnosis.findings if finding.cause == "float-island"]
    assert set(island.where) == {"first/elu", "second/elu"}
    assert "2 float op(s) between int8 ones in 2 places, 4 border(s)" in island.proof
    assert "No int8 kernel: Elu" in island.proof


def test_nan_is_found_where_it_begins(tmp_path: Path) -> None:
    fault = faults.healthy("onnx", tmp_path)
    proto = onnx.load(str(faults.quantize(fault, tmp_path)))
    for tensor in proto.graph.initializer:
        if tensor.name == "body_scale":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(np.nan), tensor.name))
    onnx.save(proto, str(tmp_path / "nan.onnx"))
    diagnosis = diagnose(fault.float_file, tmp_path / "nan.onnx", fault.evaluation, tmp_path)
    assert (diagnosis.findings[0].cause, diagnosis.findings[0].where[0]) == ("not-finite", "body")
    json.dumps(diagnosis.model_dump(), allow_nan=False)


@pytest.mark.parametrize("format", FORMATS)
def test_the_time_limit_holds(format: str, tmp_path: Path) -> None:
    fault = faults.wrong_normalization(format, tmp_path)
    artifact = faults.quantize(fault, tmp_path)
    diagnosis = diagnose(fault.float_file, artifact, fault.evaluation, tmp_path, seconds=0)
    assert not diagnosis.complete
    assert diagnosis.findings[0].cause == fault.cause  # the groups are tried first
    assert len(diagnosis.layers) > 5


def test_a_gate_is_named_though_there_was_no_time_for_its_tensors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output_blame, "_SHARE_FOR_SINGLES", 0.0)
    fault = faults.wide_hard_swish("tflite", tmp_path)
    diagnosis = diagnose(fault.float_file, faults.quantize(fault, tmp_path), fault.evaluation, tmp_path)
    assert (diagnosis.findings[0].cause, diagnosis.complete) == ("hard-swish", False)
    assert all(layer.output_error is None for layer in diagnosis.layers)


@pytest.mark.parametrize("format", FORMATS)
def test_a_float_file_has_nothing_to_explain(format: str, tmp_path: Path) -> None:
    fault = faults.healthy(format, tmp_path)
    diagnosis = diagnose(fault.float_file, fault.float_file, fault.evaluation, tmp_path)
    assert diagnosis.findings == []
    assert {output.relative_error for output in diagnosis.outputs} == {0.0}
    assert {layer.scale for layer in diagnosis.layers} == {None}


def test_the_figures_of_a_layer(tmp_path: Path) -> None:
    fault = faults.saturated_output("tflite", tmp_path)
    diagnosis = diagnose(fault.float_file, faults.quantize(fault, tmp_path), fault.evaluation, tmp_path)
    layers = {layer.tensor: layer for layer in diagnosis.layers}
    image, logits = layers["image"], layers["logits"]
    assert (image.low, image.high, image.clipped_low, image.clipped_high) == (0, 1, 0, 0)
    assert image.range_used == pytest.approx(1)
    assert image.scale == pytest.approx(1 / 255)
    assert image.zero_point == -128
    assert logits.clipped_low is not None
    assert logits.clipped_low > 0.2
    assert logits.clipped_high == 0
    assert logits.output_error is not None
    assert logits.output_error > 0.3
    assert logits.op == "CONV_2D"
    assert layers["stem"].unevenness is not None
    assert layers["stem"].unevenness > 1
    worst = [sample.relative_error or 0.0 for sample in diagnosis.worst_samples]
    assert worst == sorted(worst, reverse=True)
    assert diagnosis.worst_samples[0].sample.startswith("samples.npz[")


def test_classes_agree_or_not(tmp_path: Path) -> None:
    """The head's outputs are pooled nowhere, so any flat output of as many values as classes will do."""
    fault = faults.healthy("onnx", tmp_path)
    artifact = faults.quantize(fault, tmp_path)
    count = 4 * 8 * 8  # values of the larger output, boxes
    names = [f"class {index}" for index in range(count)]
    diagnosis = diagnose(
        fault.float_file, artifact, fault.evaluation, tmp_path, task={"kind": "classification"}, classes=names
    )
    assert sum(each.count for each in diagnosis.classes) == len(fault.evaluation)
    assert all(0 <= each.agreement <= 1 and each.name in names for each in diagnosis.classes)
    with pytest.raises(RecipeError, match="class names"):
        diagnose(
            fault.float_file, artifact, fault.evaluation, tmp_path, task={"kind": "classification"}, classes=["a"] * 3
        )


def test_labels_show_what_was_right_and_is_lost(tmp_path: Path) -> None:
    """The labels are what the float model decides, but for the last: it gets all of them but that."""
    fault = faults.wrong_normalization("onnx", tmp_path)
    artifact = faults.quantize(fault, tmp_path)
    names = [f"class {index}" for index in range(4 * 8 * 8)]
    decided = diagnose(
        fault.float_file, artifact, fault.evaluation, tmp_path, task={"kind": "classification"}, classes=names,
        seconds=0,
    )  # fmt: skip
    assert (decided.metric, decided.float_value) == ("", None)
    session = open_model(fault.float_file, "onnx")
    labels = [int(max(session.run([s["image"]]), key=np.size).argmax()) for s in fault.evaluation]
    labels[-1] = (labels[-1] + 1) % len(names)
    found = diagnose(
        fault.float_file, artifact, fault.evaluation, tmp_path, task={"kind": "classification"}, classes=names,
        labels=labels, seconds=0,
    )  # fmt: skip
    assert found.metric == "top-1"
    assert found.float_value == pytest.approx(11 / 12)
    assert found.artifact_value is not None
    lost = [sample.lost or 0 for sample in found.worst_samples]
    assert lost == sorted(lost, reverse=True)
    assert sum(lost) >= round(12 * (found.float_value - found.artifact_value)) > 0
    assert found.findings == decided.findings  # labels decide nothing
    never_decided = next(each for each in found.classes if each.name == names[labels[-1]] and each.count == 0)
    assert (never_decided.agreement, never_decided.float_metric) == (None, 0.0)


def test_samples_are_spread_over_the_whole_set(tmp_path: Path) -> None:
    """Folders list their classes one after another: the first samples alone would be of one class."""
    fault = faults.healthy("onnx", tmp_path)
    data = tmp_path / "samples.npz"
    np.savez(data, allow_pickle=False, image=np.concatenate([sample["image"] for sample in fault.evaluation]))
    dataset = {"kind": "npz", "path": data, "labels": None, "classes": [], "preprocess": PREPROCESS}
    found = run(
        out=tmp_path, progress=lambda done, text: None, float_model=fault.float_file,
        artifact=faults.quantize(fault, tmp_path), format="onnx", dataset=dataset, task={"kind": "generic"}, samples=3,
        seconds=0,
    )  # fmt: skip
    assert {each["sample"] for each in found["worst_samples"]} == {f"samples.npz[{i}]" for i in (0, 6, 11)}


def test_boxes_lost_are_counted_by_their_labels() -> None:
    """One labelled box is missed by both, one by the artifact alone."""
    task = {
        "kind": "detection", "boxes_output": "boxes", "scores_output": "scores", "score_threshold": 0.01,
        "nms_iou": 0.5, "max_detections": 10,
    }  # fmt: skip
    boxes = np.array([[[0, 0, 10, 10], [20, 20, 40, 40]]], np.float32)
    scores = np.array([[[0.9, 0.0], [0.0, 0.8]]], np.float32)
    unseen = scores.copy()
    unseen[0, 0, 0] = 0.05
    truth = [Boxes(np.array([[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]], np.float32), np.array([0, 1, 1]))]
    reference, outputs = {"boxes": boxes, "scores": scores}, {"boxes": boxes, "scores": unseen}
    found = against_labels([reference], [outputs], truth, task, ["cat", "dog"])
    assert found is not None
    assert found.lost == [1]
    assert found.metric == "mAP@[.5:.95]"
    assert found.per_class["dog"][0] == found.per_class["dog"][1] < 1


def test_detections_agree_or_not(tmp_path: Path) -> None:
    """Boxes that move by half a box, and a class that is no longer seen, are counted class by class."""
    boxes = np.array([[[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]]], np.float32)
    scores = np.array([[[0.9, 0.0], [0.0, 0.8], [0.0, 0.7]]], np.float32)
    moved, unseen = boxes.copy(), scores.copy()
    moved[0, 1] += 15
    unseen[0, 0, 0] = 0.05
    task = {
        "kind": "detection", "boxes_output": "boxes", "scores_output": "scores", "score_threshold": 0.01,
        "nms_iou": 0.5, "max_detections": 10,
    }  # fmt: skip
    reference, outputs = {"boxes": boxes, "scores": scores}, {"boxes": moved, "scores": unseen}
    same, found = agreement([reference], [reference], task, ["cat", "dog"]), agreement([reference], [outputs], task, [])
    assert [(each.name, each.count, each.agreement) for each in same] == [("cat", 1, 1.0), ("dog", 2, 1.0)]
    assert [(each.name, each.count, each.agreement) for each in found] == [("0", 1, 0.0), ("1", 2, 0.5)]
