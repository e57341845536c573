"""What makes a quantized file not worth having is measured on a real file, named, and never selected.

Nothing here depends on small differences: every slow file is several times slower than float, whatever else runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faults
import numpy as np
import pytest
from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import quantizer, recipe
from onnxruntime.quantization import QuantType, quantize_dynamic
from small_networks import Network

from edgekit.artifact import digest
from edgekit.profile import stage
from edgekit.profile.verdict import Budget, judge
from edgekit.report.schema import Accuracy, Latency, TargetReport, Variant

pytestmark = pytest.mark.slow

SETTINGS = {"samples": 10, "seconds": 0.05, "limit_s": 3.0, "seed": 0}
SIZE = (48, 48, 3)


def separable(*, island: bool = False) -> Network:
    """Build two depthwise convolutions and a sum; with an ELU, which has no int8 kernel, behind each."""
    random = np.random.default_rng(0)
    network = Network(SIZE)
    x = network.conv("image", random.normal(0, 0.3, (32, 1, 1, 3)).astype(np.float32), np.zeros(32, np.float32), "stem")
    for name in ("first", "second"):
        kernel = random.normal(0, 0.3, (3, 3, 32)).astype(np.float32)
        x = network.depthwise(x, kernel, np.zeros(32, np.float32), name, relu=not island)
        if island:
            x = network.unary("elu", x, f"{name}/elu")
    x = network.add(x, "stem", "sum")
    weights = random.normal(0, 0.3, (4, 1, 1, 32)).astype(np.float32)
    network.outputs = [network.conv(x, weights, np.zeros(4, np.float32), "head", relu=False)]
    return network


def made(format: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, Path]:
    """Write the float file and edgekit's own int8 of it."""
    monkeypatch.setattr(faults, "SIZE", SIZE)
    fault = faults.fault_of("", format, folder, separable(**options))
    return {"float32": fault.float_file, "int8": faults.quantize(fault, folder)}


def by_ai_edge_quantizer(float_file: Path, steps: Any, path: Path) -> Path:
    made = quantizer.Quantizer(str(float_file))
    made.load_quantization_recipe(steps)
    image = np.random.default_rng(1).uniform(0, 1, (1, *SIZE)).astype(np.float32)
    found = made.calibrate({"serving_default": [{"image": image}]}) if made.need_calibration else None
    made.quantize(found).export_model(str(path), overwrite=True)
    return path


def with_scale_or_zero_point(file: Path, tensor: str, field: str, value: float, path: Path) -> Path:
    """Write a file whose quantization of one tensor is what no kernel expects."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(file.read_bytes()))
    found = next(each for each in model.subgraphs[0].tensors if each.name == tensor.encode())
    setattr(found.quantization, field, [value])
    flatbuffer_utils.write_model(model, str(path))
    return path


def measured(files: dict[str, Path]) -> tuple[TargetReport, dict[str, str]]:
    """Time the files in turns, each in its own process, and judge them as equally accurate."""
    format = next(iter(files.values())).suffix[1:]
    jobs = [{"name": name, "path": path, "format": format, "expected": None} for name, path in files.items()]
    found = stage.latency(
        out=Path(), progress=lambda done, text: None, jobs=jobs, inputs=None, threads=1, device="local",
        settings=SETTINGS,
    )  # fmt: skip
    rows = [_row(name, path, found, files["float32"]) for name, path in files.items()]
    return judge("host", "This host", "other", _with_speedups(rows), Budget(1.0), timed=True), found["failed"]


def cause(report: TargetReport, name: str) -> str:
    row = next(row for row in report.variants if row.name == name)
    assert row.status in ("dropped", "unscored")
    return row.cause


@pytest.mark.filterwarnings("ignore:.*preserve_all_tensors:UserWarning")  # the quantizer's own calibration
def test_tflite_files_that_are_slow_refused_or_abort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = made("tflite", tmp_path, monkeypatch)
    float32, int8 = files["float32"], files["int8"]
    files["int8-weights"] = by_ai_edge_quantizer(float32, recipe.dynamic_wi8_afp32(), tmp_path / "dynamic.tflite")
    files["int16x8"] = by_ai_edge_quantizer(float32, recipe.static_wi8_ai16(), tmp_path / "int16.tflite")
    files["refused"] = with_scale_or_zero_point(int8, "first", "zeroPoint", 500, tmp_path / "refused.tflite")
    files["aborts"] = with_scale_or_zero_point(int8, "sum", "scale", 1e-12, tmp_path / "aborts.tflite")
    report, failed = measured(files)
    assert report.shipped == "int8", report.sentence
    assert set(failed) == {"refused", "aborts"}
    assert cause(report, "refused").startswith("the runtime does not take it: ")
    assert "unsupported zero-point value (500)" in cause(report, "refused")
    assert "XNNPACK delegate" in cause(report, "refused")
    assert cause(report, "aborts").startswith("the runtime does not take it: ")
    assert "SIGABRT" in cause(report, "aborts")
    for name, kernel in (("int8-weights", "DEPTHWISE_CONV_2D"), ("int16x8", "CONV_2D")):
        text = cause(report, name)
        assert f"{name} is slower than float" in text
        assert "in the interpreter's own kernels" in text
        assert kernel in text


def test_dynamic_range_on_onnx_convolutions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = made("onnx", tmp_path, monkeypatch)
    del files["int8"]
    files["int8-weights"] = tmp_path / "dynamic.onnx"
    quantize_dynamic(str(files["float32"]), str(files["int8-weights"]), weight_type=QuantType.QUInt8)
    report, _ = measured(files)
    assert report.shipped == "float32"
    assert "in ops that quantize their input at every call (dynamic range), most in ConvInteger" in cause(
        report, "int8-weights"
    )


def test_float_islands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime has no int8 ELU: two conversions and two layouts for each."""
    report, _ = measured(made("onnx", tmp_path, monkeypatch, island=True))
    assert report.shipped == "float32"
    assert "in float or conversion ops" in cause(report, "int8")


def _row(name: str, path: Path, found: dict[str, Any], float32: Path) -> Variant:
    latency = found["measured"].get(name)
    return Variant(
        name=name, steps=[] if path == float32 else ["quantize"], format=path.suffix[1:], precision=name,
        file=path.name, sha256=digest(path), size_bytes=path.stat().st_size, status="kept",
        accuracy=Accuracy(metric="top-1", value=0.9, samples=100, runtime="litert", runtime_version="2"),
        latency=Latency.model_validate(latency) if latency else None, latency_note=found["failed"].get(name, ""),
    )  # fmt: skip


def _with_speedups(rows: list[Variant]) -> list[Variant]:
    first = rows[0].latency
    assert first is not None
    return [
        row.model_copy(update={"speedup": first.min_ms / row.latency.min_ms if row.latency else None}) for row in rows
    ]
