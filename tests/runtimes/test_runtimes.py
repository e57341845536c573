"""Both runtimes: names, values, refusals, per-op times."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx.parser
import pytest
from tiny_tflite import write_add_relu

from edgekit.errors import StageError, UnsupportedError
from edgekit.runtimes import FACTS, RUNTIMES, files, open_model
from edgekit.runtimes.litert_ops import ops as litert_ops
from edgekit.runtimes.litert_ops import summarize as summarize_litert
from edgekit.runtimes.ort_ops import ops as ort_ops
from edgekit.runtimes.ort_ops import summarize as summarize_ort

ADD_RELU = """
    <ir_version: 8, opset_import: ["" : 18]>
    add_relu (float[1,4] image) => (float[1,4] sum, float[1,4] scores) {
        sum = Add(image, image)
        scores = Relu(sum)
    }
"""
IMAGE = np.array([[-1.0, 0.0, 0.5, 2.0]], np.float32)


def write(folder: Path, format: str) -> Path:
    path = folder / f"model.{format}"
    if format == "tflite":
        return write_add_relu(path)
    onnx.save(onnx.parser.parse_model(ADD_RELU), path)
    return path


@pytest.mark.parametrize("format", RUNTIMES)
class TestBothRuntimes:
    def test_tensors_carry_their_public_names(self, tmp_path: Path, format: str) -> None:
        session = open_model(write(tmp_path, format), format)
        assert session.inputs == [{"name": "image", "shape": [1, 4], "dtype": "float32"}]
        assert [tensor["name"] for tensor in session.outputs] == ["sum", "scores"]

    def test_run_returns_the_outputs_in_that_order(self, tmp_path: Path, format: str) -> None:
        total, scores = open_model(write(tmp_path, format), format).run([IMAGE])
        np.testing.assert_array_equal(total, 2 * IMAGE)
        np.testing.assert_array_equal(scores, np.maximum(2 * IMAGE, 0))

    def test_outputs_are_copies(self, tmp_path: Path, format: str) -> None:
        session = open_model(write(tmp_path, format), format)
        first = session.run([IMAGE])[0]
        session.run([IMAGE + 1])
        np.testing.assert_array_equal(first, 2 * IMAGE)

    def test_invoke_runs_on_the_inputs_set_before(self, tmp_path: Path, format: str) -> None:
        session = open_model(write(tmp_path, format), format)
        session.set_inputs([IMAGE])
        session.invoke()
        np.testing.assert_array_equal(session.outputs_now()[0], 2 * IMAGE)

    def test_a_wrong_number_of_inputs_is_refused(self, tmp_path: Path, format: str) -> None:
        with pytest.raises(ValueError, match="1 inputs expected, 2 given"):
            open_model(write(tmp_path, format), format).run([IMAGE, IMAGE])

    def test_the_runtime_says_its_version(self, tmp_path: Path, format: str) -> None:
        session = open_model(write(tmp_path, format), format)
        assert session.runtime in ("ai-edge-litert", "onnxruntime")
        assert session.version[0].isdigit()

    @pytest.mark.parametrize("content", [b"", b"not a model", b"\x1c\0\0\0TFL3" + b"\0" * 40])
    def test_a_bad_file_is_an_error_with_its_name(self, tmp_path: Path, format: str, content: bytes) -> None:
        path = tmp_path / f"bad.{format}"
        path.write_bytes(content)
        with pytest.raises(StageError, match=rf"cannot load .*bad\.{format}"):
            open_model(path, format)

    def test_a_missing_file_is_an_error_with_its_name(self, tmp_path: Path, format: str) -> None:
        with pytest.raises(StageError, match="absent"):
            open_model(tmp_path / "absent", format)

    def test_device_files_import_nothing_of_edgekit(self, tmp_path: Path, format: str) -> None:
        for path in files(format):
            copy = tmp_path / path.name
            copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
            code = f"import runpy, sys; runpy.run_path({str(copy)!r}); sys.exit('edgekit' in sys.modules)"
            subprocess.run([sys.executable, "-P", "-c", code], check=True, cwd=tmp_path)

    def test_device_files_keep_to_the_syntax_of_old_boards(self, format: str) -> None:
        for path in [*files(format), FACTS]:
            ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))


def test_a_tflite_file_without_signature_keeps_tensor_names(tmp_path: Path) -> None:
    session = open_model(write_add_relu(tmp_path / "bare.tflite", signature=False), "tflite")
    assert [tensor["name"] for tensor in session.inputs + session.outputs] == ["t0", "t1", "t2"]


def test_a_dynamic_size_is_minus_one(tmp_path: Path) -> None:
    path = tmp_path / "dynamic.onnx"
    onnx.save(onnx.parser.parse_model(ADD_RELU.replace("float[1,4]", "float[N,4]")), path)
    assert open_model(path, "onnx").inputs[0]["shape"] == [-1, 4]


def test_a_format_without_runtime_is_named() -> None:
    with pytest.raises(UnsupportedError, match="keras"):
        open_model(Path("model.keras"), "keras")


def test_onnx_ops_are_timed_by_node(tmp_path: Path) -> None:
    found = ort_ops(str(write(tmp_path, "onnx")), 1, 5)
    timed = found["ops"]
    assert found["nodes"] == {"CPUExecutionProvider": len(timed)}
    assert [op["kind"] for op in timed] == ["Add", "Relu"]
    assert all(op["ms"] >= 0 for op in timed)


def test_tflite_ops_are_timed_in_run_order(tmp_path: Path) -> None:
    found = litert_ops(str(write(tmp_path, "tflite")), 1, 5)
    timed = found["ops"]
    assert found["nodes"]["XNNPACK"] > 0
    assert found["nodes"]["TFLite kernels"] == 0
    assert [op["kind"] for op in timed] == ["Add", "Clamp"]  # XNNPACK's word for ReLU


def test_tflite_events_of_whole_runs_and_delegates_are_left_out() -> None:
    once = [("Invoke", 1, 900), ("TfLiteXNNPackDelegate", 2, 800), ("Convolution (NHWC, QC8) IGEMM", 8, 700)]
    slow = [*once[:2], ("Convolution (NHWC, QC8) IGEMM", 8, 9000)]
    assert summarize_litert([*once, *slow, *once], 3) == [
        {"name": "0: Convolution (NHWC, QC8) IGEMM", "kind": "Convolution", "ms": 0.7}
    ]


def test_tflite_runs_with_different_ops_are_refused() -> None:
    with pytest.raises(ValueError, match="same ops"):
        summarize_litert([("Add (ND)", 8, 1), ("Mul (ND)", 8, 1)], 2)


def test_onnx_warm_up_runs_are_left_out() -> None:
    def event(duration: int) -> dict[str, object]:
        return {"cat": "Node", "name": "a_kernel_time", "dur": duration, "args": {"op_name": "Conv"}}

    assert summarize_ort([event(9000), event(1000), event(2000), event(3000)], 3) == [
        {"name": "a", "kind": "Conv", "ms": 2.0}
    ]
