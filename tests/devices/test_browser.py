"""Artifacts in a real browser: right results, threads only where there are some, and every way in which it can end."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

import numpy as np
import psutil
import pytest
import web_models
from machines import free_port, require

import edgekit
from edgekit.devices import browser, open_device
from edgekit.devices.browser import BrowserDevice
from edgekit.devices.browser_address import Address, by_hand
from edgekit.devices.browser_launch import CHOICE, find_browser, launch
from edgekit.errors import CrashedError, DeviceError, DroppedError, StageError, UnsupportedError
from edgekit.profile.device_model import on_device
from edgekit.profile.stage import on_device as on_browser
from edgekit.runtimes import open_model
from edgekit.runtimes.agent import synthetic_inputs

pytestmark = pytest.mark.browser

_PATIENCE_S = 60.0
_GONE_S = 15.0
_BUSY_S = 2.0  # a page has computed this long: it is measuring
_FLOAT = 1e-5  # sums in another order


@pytest.fixture(scope="module", autouse=True)
def chromium() -> None:
    """Skip all of this where no browser can be driven."""
    have = find_browser()
    require(have, "no browser is installed; on Debian: apt-get install chromium")
    for module in ("playwright", "edgekit_web_assets"):
        done = subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True)
        require(done.returncode == 0, f"{module} is not installed: make web")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    float_tflite = web_models.write_tflite(folder / "float.tflite")
    float_onnx = web_models.write_onnx(folder / "float.onnx")
    return {
        "float.tflite": float_tflite,
        "int8.tflite": web_models.quantize_tflite(float_tflite, folder / "int8.tflite", float_io=True),
        "int8-borders.tflite": web_models.quantize_tflite(float_tflite, folder / "int8-borders.tflite", float_io=False),
        "float.onnx": float_onnx,
        "int8.onnx": web_models.quantize_onnx(float_onnx, folder / "int8.onnx"),
    }


@pytest.fixture(scope="module")
def page() -> Iterator[BrowserDevice]:
    """One browser for the tests that leave it alive."""
    with open_device("browser") as device:
        yield device


def test_onnxruntime_web_times_every_op(page: BrowserDevice, models: dict[str, Path]) -> None:
    path = models["int8.onnx"]
    with page.connect(path.name) as session:
        found = session.ask("ops", _PATIENCE_S, path=path, format="onnx", threads=1, runs=5)
    assert found["nodes"] == {"CPUExecutionProvider": len(found["ops"])}
    assert any("Conv" in op["kind"] for op in found["ops"])
    assert sum(op["ms"] for op in found["ops"]) > 0


def test_litert_js_is_said_to_time_none(page: BrowserDevice, models: dict[str, Path]) -> None:
    path = models["float.tflite"]
    with page.connect(path.name) as session, pytest.raises(StageError, match=r"LiteRT\.js times no single ops"):
        session.ask("ops", _PATIENCE_S, path=path, format="tflite", threads=1, runs=5)


def _outputs(device: BrowserDevice, path: Path, threads: int = 1) -> dict[str, np.ndarray]:
    with device.connect(path.name) as session:
        session.ask("load", _PATIENCE_S, path=path, format=path.suffix[1:], threads=threads, inputs=None, seed=0)
        replied = session.ask("outputs", _PATIENCE_S)["outputs"]
    return {
        output["name"]: np.frombuffer(base64.b64decode(output["data"]), output["dtype"]).reshape(output["shape"])
        for output in replied
    }


def _native(path: Path) -> dict[str, np.ndarray]:
    session = open_model(path, path.suffix[1:])
    outputs = session.run(synthetic_inputs(session.inputs, 0))
    return {tensor["name"]: array for tensor, array in zip(session.outputs, outputs, strict=True)}


def _assert_equal(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray], tolerance: float = _FLOAT) -> None:
    assert got.keys() == wanted.keys()
    for name, array in wanted.items():
        assert np.abs(got[name] - array).max() <= tolerance * np.abs(array).max(), name


@pytest.mark.parametrize("name", ["float.tflite", "int8.tflite", "float.onnx", "int8.onnx"])
def test_wasm_computes_what_this_host_computes(page: BrowserDevice, models: dict[str, Path], name: str) -> None:
    _assert_equal(_outputs(page, models[name]), _native(models[name]))


@pytest.mark.parametrize("name", ["float.tflite", "float.onnx"])
def test_two_threads_compute_the_same(page: BrowserDevice, models: dict[str, Path], name: str) -> None:
    assert page.page_facts["isolated"]
    _assert_equal(_outputs(page, models[name], threads=2), _native(models[name]))


def test_a_given_input_is_what_the_model_gets(page: BrowserDevice, models: dict[str, Path], tmp_path: Path) -> None:
    sample = web_models.samples(1)[0]
    np.savez(tmp_path / "inputs.npz", x=sample)
    path = models["float.tflite"]
    with page.connect("float") as session:
        session.ask("load", _PATIENCE_S, path=path, format="tflite", threads=1, inputs=tmp_path / "inputs.npz", seed=0)
        (output,) = session.ask("outputs", _PATIENCE_S)["outputs"]
    got = np.frombuffer(base64.b64decode(output["data"]), np.float32).reshape(output["shape"])
    (wanted,) = open_model(path, "tflite").run([sample])
    _assert_equal({"y0": got}, {"y0": wanted})


@pytest.mark.parametrize("device", ["local", "browser"])
def test_a_model_on_a_device_is_called_like_one_here(models: dict[str, Path], device: str) -> None:
    path = models["int8.tflite"]
    here = open_model(path, "tflite")
    with on_device(device, path, "tflite", threads=1) as there:
        for sample in web_models.samples(3):
            (got,), (wanted,) = there.run([sample]), here.run([sample])
            _assert_equal({"y0": got}, {"y0": wanted})


def test_times_are_above_the_clock_step(page: BrowserDevice, models: dict[str, Path]) -> None:
    path = models["int8.tflite"]
    with page.connect("int8") as session:
        loaded = session.ask("load", _PATIENCE_S, path=path, format="tflite", threads=1, inputs=None, seed=0)
        warm = session.ask("warmup", _PATIENCE_S, calls=5, seconds=0.05)
        calls = 20 * loaded["timer_step_ns"] // warm["fastest_ns"] + 1
        timed = session.ask("group", _PATIENCE_S, samples=5, calls_per_sample=calls, lead_in=1, limit_s=5.0)
        memory = session.ask("memory", _PATIENCE_S)["peak_bytes"]
    assert len(timed["samples_ns"]) == 5
    assert min(timed["samples_ns"]) * calls >= loaded["timer_step_ns"]
    assert path.stat().st_size < memory < 1 << 32  # the heap of its WebAssembly


def test_artifacts_live_side_by_side(page: BrowserDevice, models: dict[str, Path]) -> None:
    names = ["float.tflite", "int8.tflite"]
    sessions = [page.connect(name) for name in names]
    with sessions[0] as one, sessions[1] as other:
        for session, name in zip((one, other), names, strict=True):
            session.ask("load", _PATIENCE_S, path=models[name], format="tflite", threads=1, inputs=None, seed=0)
        first, second = (session.ask("outputs", _PATIENCE_S)["outputs"][0]["data"] for session in (one, other))
    assert first != second


def test_a_model_that_litert_js_cannot_load_is_our_error(page: BrowserDevice, models: dict[str, Path]) -> None:
    with pytest.raises(UnsupportedError, match=r"LiteRT\.js 2\.5\.3 cannot load it.*INT8") as caught:
        _outputs(page, models["int8-borders.tflite"])
    assert "target browser" in caught.value.hint


def test_a_damaged_model_is_our_error(page: BrowserDevice, models: dict[str, Path], tmp_path: Path) -> None:
    for name in ("float.onnx", "float.tflite"):
        damaged = tmp_path / name
        damaged.write_bytes(models[name].read_bytes()[:200])
        with pytest.raises(UnsupportedError, match="cannot load it"):
            _outputs(page, damaged)
    _assert_equal(_outputs(page, models["float.onnx"]), _native(models["float.onnx"]))  # the page is well


def test_an_input_that_does_not_fit_is_named(page: BrowserDevice, models: dict[str, Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "inputs.npz", x=np.zeros((1, 2), np.float32))
    with page.connect("float") as session, pytest.raises(StageError, match=r"input x takes shape \[1, 16, 16, 3\]"):
        session.ask(
            "load", _PATIENCE_S, path=models["float.tflite"], format="tflite", threads=1,
            inputs=tmp_path / "inputs.npz", seed=0,
        )  # fmt: skip


def test_webgpu_in_software_is_flagged_and_right(models: dict[str, Path]) -> None:
    with open_device("browser:webgpu") as device:
        assert device.describe()["emulated"] == bool(device.page_facts["gpu"]["fallback"])
        _assert_equal(_outputs(device, models["float.tflite"]), _native(models["float.tflite"]), 1e-4)


def test_firefox_computes_the_same(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    program = shutil.which("firefox") or shutil.which("firefox-esr")
    if program is None:
        pytest.skip("Firefox is not installed; Chromium was tested")
    monkeypatch.setenv(CHOICE, program)
    with open_device("browser") as device:
        assert device.describe()["cpu"].startswith("Firefox ")
        assert device.page_facts["isolated"]
        for name in ("int8.tflite", "float.onnx"):
            _assert_equal(_outputs(device, models[name], threads=2), _native(models[name]))


@contextmanager
def _hand(address: Address) -> Iterator[list[DeviceError]]:
    """Open the page as soon as it is served, and keep it open; yields how the browser ended, if it did."""
    lost: list[DeviceError] = []
    done = Event()

    def open_page() -> None:
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", address.port)) == 0:
                    break
            time.sleep(0.05)
        with launch(address.url, gpu=False, software_gpu=False, ended=lost.append):
            done.wait()

    hand = Thread(target=open_page, daemon=True)
    hand.start()
    try:
        yield lost
    finally:
        done.set()
        hand.join(_PATIENCE_S)


def test_a_page_opened_by_hand_over_the_network_has_no_threads(models: dict[str, Path]) -> None:
    address = by_hand("browser", f"0.0.0.0:{free_port()}")
    require("127.0." not in address.url, "this machine is in no network")
    with _hand(address) as lost, BrowserDevice(address) as device:
        assert device.name == f"browser:wasm@0.0.0.0:{address.port}"
        assert not device.page_facts["isolated"]
        _assert_equal(_outputs(device, models["int8.tflite"]), _native(models["int8.tflite"]))
        with pytest.raises(DeviceError, match="2 threads were asked for") as caught:
            _outputs(device, models["int8.tflite"], threads=2)
    assert "https and localhost" in caught.value.hint
    assert not lost


def _browsers(owner: psutil.Process, kind: str) -> list[psutil.Process]:
    """Return the browser processes below ``owner`` that have this word on their command line."""
    found = []
    for child in owner.children(recursive=True):
        try:
            words = child.cmdline()
        except psutil.Error:
            continue
        if "chrom" in " ".join(words[:1]) and any(word.startswith(kind) for word in words):
            found.append(child)
    return found


def test_closing_the_browser_midway_ends_with_6_at_once(models: dict[str, Path]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(edgekit.__file__).parents[1])}
    command = [sys.executable, "-m", "edgekit", "profile", str(models["float.tflite"]), "--device", "browser"]
    with subprocess.Popen(
        [*command, "--seconds", "120"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    ) as process:
        end = time.monotonic() + _PATIENCE_S
        owner = psutil.Process(process.pid)
        while not (browsers := _browsers(owner, "--remote-debugging")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.1)
        while not any(one.cpu_times().user > _BUSY_S for one in _browsers(owner, "--type=renderer")):
            assert time.monotonic() < end
            time.sleep(0.1)
        left = owner.children(recursive=True)
        browsers[0].kill()
        _, said = process.communicate(timeout=_GONE_S)
    assert process.returncode == 6, said
    assert b"Chromium" in said
    assert not [child for child in left if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_a_browser_that_freezes_is_noticed(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browser, "_SILENCE_S", 4.0)  # two beats
    with open_device("browser") as device:
        frozen = _browsers(psutil.Process(), "--")
        for process in frozen:
            process.suspend()
        try:
            with pytest.raises(DroppedError, match="not been heard of for 4 s"):
                _outputs(device, models["float.tflite"])
        finally:
            for process in frozen:
                process.resume()


def test_a_page_that_crashes_is_noticed(models: dict[str, Path]) -> None:
    with open_device("browser") as device:
        for renderer in _browsers(psutil.Process(), "--type=renderer"):
            renderer.kill()
        with pytest.raises(CrashedError, match="crashed in Chromium") as caught:
            _outputs(device, models["float.tflite"])
    assert caught.value.exit_code == 6


def test_one_model_that_cannot_go_there_leaves_the_others_their_rows(models: dict[str, Path], tmp_path: Path) -> None:
    names = ["int8-borders.tflite", "int8.tflite", "float.tflite"]
    jobs = [{"name": name, "path": models[name], "format": "tflite", "expected": None} for name in names]
    done = on_browser(
        out=tmp_path, progress=lambda done, what: None, jobs=jobs, inputs=None, threads=1, device="browser",
        settings={"samples": 5, "seconds": 0.05, "limit_s": 1.0, "seed": 0},
    )  # fmt: skip
    assert done["runs"].keys() == {"int8.tflite", "float.tflite"}
    assert done["errors"] == {"int8-borders.tflite": "UnsupportedError"}
    for run in done["runs"].values():
        assert "cpu_fallback" not in run["latency"]["flags"]


def _profile(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(edgekit.__file__).parents[1]), "COLUMNS": "80"}
    command = [sys.executable, "-m", "edgekit", "profile", "--device", "browser", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def test_the_command_checks_and_times(models: dict[str, Path]) -> None:
    done = _profile(models["int8.tflite"], models["float.tflite"], "--seconds", "0.1", "--json")
    assert done.returncode == 0, done.stderr
    for run in json.loads(done.stdout).values():
        figure = run["latency"]
        assert figure["place"] == "device"
        assert figure["runtime"] == "LiteRT.js"
        assert 0 < figure["min_ms"] <= figure["p50_ms"] <= figure["p90_ms"] <= figure["p99_ms"]
        assert run["difference"] <= _FLOAT
        assert "Chromium" in run["machine"]


def test_the_command_says_4_for_a_model_that_cannot_go_there(models: dict[str, Path]) -> None:
    done = _profile(models["int8-borders.tflite"])
    assert done.returncode == 4, done.stderr
    assert "LiteRT.js" in done.stderr
    assert "Traceback" not in done.stderr
