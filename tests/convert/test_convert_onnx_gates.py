"""Hard gates as an addition of integers: the same answers, no float op left between the int8 ones."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnx_graphs
import onnxruntime as ort
import pytest

from edgekit.convert import onnx_quantized
from edgekit.quantize.calibrate import ranges_onnx
from edgekit.quantize.decide import decide
from edgekit.quantize.plan import Plan


def planned(proto: onnx.ModelProto, folder: Path, scheme: str = "cpu", hazards: bool = True) -> tuple[bytes, Plan]:
    path = onnx_graphs.save(proto, folder)
    ranges = ranges_onnx(path, onnx_graphs.samples(proto))
    return path.read_bytes(), decide(path, "onnx", "int8", scheme, ranges, hazards=hazards)


def run(content: bytes, sample: dict[str, np.ndarray], names: list[str] | None = None) -> list[np.ndarray]:
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    result: list[np.ndarray] = session.run(names, sample)
    return result


def kinds(content: bytes) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load_from_string(content).graph.node)


def executed(content: bytes, folder: Path) -> Counter[str]:
    """Return the kernels that onnxruntime chose."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return kinds((folder / "optimized.onnx").read_bytes())


def test_a_gate_follows_the_product_that_reads_it(tmp_path: Path) -> None:
    _content, plan = planned(onnx_graphs.gated(), tmp_path)
    assert {decision.op: decision.precision for decision in plan.decisions}["g1"] == "int8"
    _, careful = planned(onnx_graphs.gated(), tmp_path, hazards=False)
    assert {decision.op: decision.precision for decision in careful.decisions}["g1"] == "float32"


def test_gates_run_on_integers_and_stay_close_to_float(tmp_path: Path) -> None:
    proto = onnx_graphs.gated()
    content, plan = planned(proto, tmp_path)
    quantized = onnx_quantized.emit(content, plan)
    assert kinds(quantized)["HardSigmoid"] == 0
    assert not {"HardSigmoid", "Mul", "Add", "Clip"} & executed(quantized, tmp_path).keys()
    for sample in onnx_graphs.samples(proto)[:4]:
        expected, found = run(content, sample)[0], run(quantized, sample)[0]
        assert np.linalg.norm(expected - found) < 0.04 * np.linalg.norm(expected)


def test_the_gate_keeps_its_name_and_its_values(tmp_path: Path) -> None:
    proto = onnx_graphs.gated()
    content, plan = planned(proto, tmp_path)
    tapped = onnx.load_from_string(onnx_quantized.emit(content, plan))
    reference = onnx.load_from_string(content)
    for graph in (tapped.graph, reference.graph):
        graph.output.extend([onnx.helper.make_tensor_value_info("g1", onnx.TensorProto.FLOAT, None)])
    for sample in onnx_graphs.samples(proto)[:4]:
        expected = run(reference.SerializeToString(), sample, ["g1"])[0]
        found = run(tapped.SerializeToString(), sample, ["g1"])[0]
        step = 1.5 * (plan.ranges["c1"][1] - plan.ranges["c1"][0]) / 255 / 6  # of c1, seen through the slope of 1/6
        assert np.abs(expected - found).max() < step + 1 / 255
        assert found.min() >= 0.0
        assert found.max() <= 1.0


@pytest.mark.parametrize("scheme", ["tensorrt"])
def test_other_runtimes_keep_their_hard_sigmoid(scheme: str, tmp_path: Path) -> None:
    content, plan = planned(onnx_graphs.gated(), tmp_path, scheme)
    assert kinds(onnx_quantized.emit(content, plan))["HardSigmoid"] == 2


def test_a_gate_that_is_an_output_stays(tmp_path: Path) -> None:
    proto = onnx_graphs.gated(gate_is_output=True)
    content, plan = planned(proto, tmp_path)
    quantized = onnx_quantized.emit(content, plan)
    assert kinds(quantized)["HardSigmoid"] == 1
    sample = onnx_graphs.samples(proto)[0]
    for expected, found in zip(run(content, sample), run(quantized, sample), strict=True):
        assert np.abs(expected - found).max() < 0.05 * np.abs(expected).max()
