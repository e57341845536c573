"""A Jetson's way: trtexec, stood in for, builds the engine and times it, over a real ssh."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import fake_trtexec
import onnx.parser
import pytest
import web_models
from machines import Sshd
from project import edgekit

from edgekit.devices import open_device
from edgekit.devices.tensorrt import latencies_ns
from edgekit.errors import RecipeError
from edgekit.report.schema import DeviceRun

GRAPH = '<ir_version: 8, opset_import: ["" : 17]> g (float[1,64] x) => (float[1,64] y) { y = Relu(x) }'


@pytest.fixture
def jetson(board: Sshd) -> Iterator[str]:
    """Return the address of a board with trtexec in its PATH."""
    program = board.folder / "bin" / "trtexec"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {fake_trtexec.__file__} "$@"\n')
    program.chmod(0o755)
    yield f"{board.address}&runtime=tensorrt"
    program.unlink()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(GRAPH), path)
    return path


def test_the_engine_s_outputs_are_compared_and_its_times_read(jetson: str, model: Path) -> None:
    done = edgekit("profile", model, "--device", jetson, "--seconds", "0.1", "--json")
    assert done.code == 0, done.err
    (text,) = json.loads(done.out).values()
    run = DeviceRun.model_validate(text)
    assert run.difference == 0
    assert run.latency is not None
    assert (run.latency.runtime, run.latency.runtime_version) == ("TensorRT", "8502")
    assert run.latency.p50_ms == run.latency.p99_ms == fake_trtexec.MS  # nothing of the warm-up's 99 ms
    assert run.latency.load_ms == pytest.approx(12.3)
    assert [(op.name, op.ms) for op in run.latency.ops] == [("Conv_0 + Relu_1", 1.0)]


def test_what_tensorrt_refuses_is_said_in_its_words(jetson: str, model: Path) -> None:
    refused = model.rename(model.with_name("refused.onnx"))
    done = edgekit("profile", refused, "--device", jetson)
    assert done.code == 5
    assert "UNSUPPORTED_NODE" in done.err


def test_only_onnx_goes_there(jetson: str, tmp_path: Path) -> None:
    done = edgekit("profile", web_models.write_tflite(tmp_path / "model.tflite"), "--device", jetson)
    assert done.code == 4
    assert "TensorRT reads .onnx files" in done.err


def test_a_board_without_trtexec_is_told_where_it_is_from(board: Sshd, model: Path) -> None:
    done = edgekit("profile", model, "--device", f"{board.address}&runtime=tensorrt")
    assert done.code == 6
    assert "apt install libnvinfer-bin" in done.err


def test_another_runtime_cannot_be_chosen() -> None:
    with pytest.raises(RecipeError, match="no runtime 'tflite'"):
        open_device("ssh://board?runtime=tflite")


def test_warm_up_calls_do_not_count() -> None:
    trace = [{"startComputeMs": float(ms), "latencyMs": 9.0 if ms < 200 else float(ms % 3 + 1)} for ms in range(206)]
    assert latencies_ns(trace, 200, 4, 1) == [2_000_000, 3_000_000, 1_000_000, 2_000_000]
    assert latencies_ns(trace, 200, 4, 2) == [2_500_000, 1_500_000]
