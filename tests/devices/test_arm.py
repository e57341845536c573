"""Real ARM kernels under an emulator: the same integers as here, and never a millisecond."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import arm
import numpy as np
import onnx.parser
import pytest
import web_models
from machines import Sshd
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from edgekit.devices import open_device
from edgekit.devices.ssh import PROGRAM
from edgekit.errors import CrashedError, RuntimeMissingError
from edgekit.profile.reference import INT8_TAIL_TOLERANCE
from edgekit.profile.stage import on_device
from edgekit.report.schema import DeviceRun

pytestmark = pytest.mark.slow
TIMEOUT_S = 120.0
VNNI = "avx512_vnni" in Path("/proc/cpuinfo").read_text()
CONVOLUTIONS = """
    <ir_version: 8, opset_import: ["" : 17]>
    net (float[1,3,32,32] x) => (float[1,8,15,15] y) <float[16,3,3,3] w1, float[8,16,3,3] w2> {
        a = Conv <pads = [1,1,1,1]> (x, w1)
        b = Relu (a)
        y = Conv <strides = [2,2]> (b, w2)
    }
"""


class Samples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = [{"x": np.random.default_rng(seed).random((1, 3, 32, 32), np.float32)} for seed in range(4)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


@pytest.fixture(scope="module")
def pi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with arm.raspberry_pi(tmp_path_factory.mktemp("pi")) as board:
        yield board


@pytest.fixture
def board(pi: Sshd, monkeypatch: pytest.MonkeyPatch) -> Sshd:
    monkeypatch.setenv(PROGRAM, pi.program)
    return pi


@pytest.fixture(scope="module")
def qdq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return unsigned activations and signed weights: the Q/DQ file that CPUs get."""
    folder = tmp_path_factory.mktemp("qdq")
    model = onnx.parser.parse_model(CONVOLUTIONS)
    draw = np.random.default_rng(0)
    for name, shape in (("w1", (16, 3, 3, 3)), ("w2", (8, 16, 3, 3))):
        weights = onnx.numpy_helper.from_array(draw.normal(0, 0.2, shape).astype(np.float32), name)
        model.graph.initializer.extend([weights])
    onnx.save(model, folder / "float.onnx")
    quantize_static(
        folder / "float.onnx", folder / "qdq.onnx", Samples(), quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, per_channel=True,
    )  # fmt: skip
    return folder / "qdq.onnx"


def there(board: Sshd, path: Path, out: Path) -> DeviceRun:
    job = {"name": "model", "path": path, "format": path.suffix[1:], "expected": None}
    settings = {"samples": 10, "seconds": 0.1, "limit_s": 2, "seed": 0}
    found = on_device(
        out=out, progress=lambda done, what: None, jobs=[job], inputs=None, threads=1, device=board.address,
        settings=settings,
    )  # fmt: skip
    return DeviceRun.model_validate(found["runs"]["model"])


def same_integers(run: DeviceRun) -> bool:
    """Say whether not one int8 step differs (4e-3), leaving float32 tails like a softmax their last bit.

    Without VNNI, u8 x s8 products of x86 may saturate.
    """
    assert run.difference is not None
    return run.difference <= (1e-6 if VNNI else 1 / 255)


def test_it_is_known_for_what_it_is(board: Sshd) -> None:
    with open_device(board.address) as device:
        facts = device.describe()
    assert (facts["machine"], facts["emulated"]) == ("aarch64", True)
    assert facts["cpu"] == "Raspberry Pi 4 Model B Rev 1.5"


def test_an_int8_tflite_file_is_the_same_there_and_untimed(board: Sshd, finished: Path, tmp_path: Path) -> None:
    (model,) = (finished / "out/variants").glob("tflite-int8-original.tflite")
    run = there(board, model, tmp_path)
    assert run.emulated
    assert same_integers(run)
    assert run.latency is None


def test_an_int8_tflite_file_gives_the_same_integers_there(board: Sshd, tmp_path: Path) -> None:
    """What holds: not one integer differs from x86 with VNNI (LiteRT 2.3, Cortex-A72), one step at most elsewhere."""
    source = web_models.write_tflite(tmp_path / "float.tflite")
    model = web_models.quantize_tflite(source, tmp_path / "int8.tflite", float_io=False)
    run = there(board, model, tmp_path / "out")
    assert run.difference is not None
    assert run.difference <= (0 if VNNI else 1)


def test_a_qdq_onnx_file_is_the_same_there_and_untimed(board: Sshd, qdq: Path, tmp_path: Path) -> None:
    run = there(board, qdq, tmp_path)
    assert run.difference == 0 if VNNI else same_integers(run)
    assert run.latency is None


def test_ops_are_profiled_by_both_runtimes(board: Sshd, qdq: Path, finished: Path) -> None:
    (model,) = (finished / "out/variants").glob("tflite-int8-original.tflite")
    with open_device(board.address) as device:
        for path in (qdq, model):
            with device.connect(path.name) as session:
                reply = session.ask("ops", TIMEOUT_S, path=path, format=path.suffix[1:], threads=1, runs=1)
            assert len(reply["ops"]) > 1, path.name


def test_a_segmentation_fault_there_is_named(board: Sshd, tmp_path: Path) -> None:
    script = tmp_path / "agent.py"
    script.write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with (
        open_device(board.address) as device,
        device.connect("tiny", script) as session,  # type: ignore[call-arg]
        pytest.raises(CrashedError, match="killed by SIGSEGV"),
    ):
        session.ask("memory", TIMEOUT_S)


@pytest.fixture(scope="module")
def small_pi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """Return a Raspberry Pi 2: 32 bits, where only tflite-runtime has wheels."""
    with arm.raspberry_pi(tmp_path_factory.mktemp("small-pi"), "armhf") as board:
        yield board


@pytest.fixture
def small(small_pi: Sshd, monkeypatch: pytest.MonkeyPatch) -> Sshd:
    monkeypatch.setenv(PROGRAM, small_pi.program)
    return small_pi


def test_on_32_bits_an_int8_file_is_off_by_one_step_and_its_softmax(
    small: Sshd, finished: Path, tmp_path: Path
) -> None:
    (model,) = (finished / "out/variants").glob("tflite-int8-original.tflite")
    run = there(small, model, tmp_path)
    assert run.machine.startswith("Raspberry Pi 2")
    assert run.emulated
    assert run.difference is not None
    assert run.difference <= INT8_TAIL_TOLERANCE
    assert run.latency is None


def test_on_32_bits_onnx_is_said_not_to_exist(small: Sshd, qdq: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeMissingError, match="no runtime") as caught:
        there(small, qdq, tmp_path)
    assert "32-bit ARM" in caught.value.hint
