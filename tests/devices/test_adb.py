"""A phone over a real adb to a real adbd on loopback: what works, and every way in which it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import adb_phone
import counting_agent
import machines
import onnx.parser
import pytest
import web_models
from adb_phone import RUNS, Adb, Phone
from project import command, edgekit, environment

from edgekit.devices import keeper, open_device
from edgekit.devices.adb import PROGRAM
from edgekit.devices.cures import missing_python
from edgekit.errors import (
    CrashedError,
    DroppedError,
    NoSpaceError,
    RecipeError,
    SeveralDevicesError,
    UnauthorizedError,
    UnreachableError,
)  # fmt: skip
from edgekit.report.schema import DeviceRun

TIMEOUT_S = 60.0
NOTICED_S = 15.0
ENDLESS = {"samples": 10**9, "calls_per_sample": 1, "lead_in": 0, "limit_s": 60}
DOUBLE = '<ir_version: 8, opset_import: ["" : 18]> g (float[1,3] x) => (float[1,3] y) { y = Add(x, x) }'


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adb]:
    with adb_phone.adb(tmp_path_factory.mktemp("adb")) as running:
        yield running


@pytest.fixture(scope="module")
def kept(client: Adb) -> Phone:
    return client.plug_in("kept")


@pytest.fixture
def phone(kept: Phone, client: Adb, monkeypatch: pytest.MonkeyPatch) -> Iterator[Phone]:
    monkeypatch.setenv(PROGRAM, client.program)
    yield kept
    end = time.monotonic() + 25  # one that was unplugged waits 15 s for its return and then cleans up by itself
    while list(RUNS.glob("run-*")) and time.monotonic() < end:
        time.sleep(0.05)
    assert not list(RUNS.glob("run-*")), "something was left on the device"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "my model.onnx"
    onnx.save(onnx.parser.parse_model(DOUBLE), path)
    return path


def address(phone: Phone) -> str:
    return f"adb:{phone.serial}?python={sys.executable}"


def test_an_artifact_runs_there_and_nothing_stays(phone: Phone, model: Path) -> None:
    done = edgekit("profile", model, "--device", address(phone), "--seconds", "0.1", "--json")
    assert done.code == 0, done.err
    run = DeviceRun.model_validate_json(done.out.partition(":")[2].rpartition("}")[0])
    assert run.device == f"adb:{phone.serial}"
    assert run.difference == 0
    assert run.latency is not None
    assert run.latency.place == "device"


def test_any_bytes_go_there_and_output_and_status_come_back(phone: Phone, tmp_path: Path) -> None:
    content = tmp_path / "it's a $file"
    content.write_bytes(bytes(range(256)) * 4000)
    with open_device(address(phone)) as device:
        assert Path(device.push(content)).read_bytes() == content.read_bytes()  # type: ignore[attr-defined]
        done = device.run("printf 'a\\r\\nb'; echo err >&2; exit 7")  # type: ignore[attr-defined]
    assert (done.status, done.stdout, done.stderr) == (7, b"a\r\nb", ["err"])


def test_the_only_device_needs_no_serial_number(phone: Phone) -> None:
    with open_device(f"adb:?python={sys.executable}") as device:
        assert device.describe()["machine"] == os.uname().machine


def test_two_devices_are_told_apart_by_serial_number(phone: Phone, client: Adb) -> None:
    other = client.plug_in("other")
    try:
        with pytest.raises(SeveralDevicesError) as caught, open_device("adb"):
            pass
        assert f"adb:{phone.serial}" in caught.value.hint
        assert f"adb:{other.serial}" in caught.value.hint
        with open_device(address(other)) as device:
            assert device.run("echo $ADBD_PORT").stdout.split() == [str(other.port).encode()]  # type: ignore[attr-defined]
    finally:
        client.forget(other)


def test_a_phone_that_does_not_trust_this_machine(phone: Phone, client: Adb) -> None:
    stranger = client.plug_in("stranger", trusted=False)
    try:
        with pytest.raises(UnauthorizedError, match="does not trust") as caught, open_device(address(stranger)):
            pass
    finally:
        client.forget(stranger)
    assert "allow USB debugging" in caught.value.hint


def test_a_phone_that_is_not_there(phone: Phone) -> None:
    with pytest.raises(UnreachableError, match="no such device") as caught, open_device("adb:0123456789"):
        pass
    assert f"Attached: adb:{phone.serial}" in caught.value.hint


def test_unplugged_midway_is_noticed_although_adb_ends_well(phone: Phone, client: Adb, model: Path) -> None:
    victim = client.plug_in("victim")
    try:
        with open_device(address(victim)) as device, device.connect("tiny") as session:
            session.ask("load", TIMEOUT_S, path=model, format="onnx", threads=1, inputs=None)
            threading.Timer(0.2, victim.unplug).start()
            start = time.monotonic()
            with pytest.raises(DroppedError, match=r"tiny, during 'group': adb:.*unplugged"):
                session.ask("group", TIMEOUT_S, **ENDLESS)
            assert time.monotonic() - start < NOTICED_S
    finally:
        client.forget(victim)


def test_a_finished_result_is_fetched_when_it_is_plugged_in_again(phone: Phone, client: Adb, tmp_path: Path) -> None:
    victim = client.plug_in("victim-that-comes-back")

    def pull_and_plug() -> None:
        victim.unplug()
        time.sleep(1)
        victim.start()

    try:
        with (
            open_device(address(victim)) as device,
            device.connect("tiny", counting_agent.write(tmp_path)) as session,  # type: ignore[call-arg]
        ):
            assert session.ask("memory", TIMEOUT_S)["peak_bytes"] > 0
            threading.Timer(0.2, pull_and_plug).start()
            assert session.ask("count", TIMEOUT_S, seconds=2) == {"calls": 1}
            assert session.ask("memory", TIMEOUT_S)["peak_bytes"] > 0
        assert not list(RUNS.glob("run-*"))
    finally:
        client.forget(victim)


def test_a_phone_that_leaves_the_network_in_silence_is_noticed(
    phone: Phone, client: Adb, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_GRACE_S", 2)
    victim = client.plug_in("victim-that-freezes")
    try:
        with open_device(address(victim)) as device, device.connect("tiny") as session:
            session.ask("load", TIMEOUT_S, path=model, format="onnx", threads=1, inputs=None)
            victim.freeze()
            start = time.monotonic()
            with pytest.raises(DroppedError, match=r"tiny, during 'group': adb:.*answered nothing for 7 s"):
                session.ask("group", TIMEOUT_S, **ENDLESS)
            assert time.monotonic() - start < NOTICED_S
            victim.freeze(stop=False)
    finally:
        client.forget(victim)


def test_unplugged_midway_is_exit_code_6(phone: Phone, client: Adb, model: Path) -> None:
    victim = client.plug_in("victim-of-the-command")
    arguments = command("profile", model, "--device", address(victim), "--seconds", "30")
    try:
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
            end = time.monotonic() + 60
            while not any(RUNS.glob("run-*/*agent.py")) and time.monotonic() < end:
                time.sleep(0.05)
            time.sleep(1)
            victim.unplug()
            start = time.monotonic()
            _, err = process.communicate(timeout=60)
            assert time.monotonic() - start < NOTICED_S
        assert process.returncode == 6, err.decode()
        assert "unplugged" in err.decode()
    finally:
        client.forget(victim)


def test_a_program_that_crashes_there(phone: Phone, model: Path) -> None:
    with open_device(address(phone)) as device, device.connect("tiny") as session:
        session.ask("load", TIMEOUT_S, path=model, format="onnx", threads=1, inputs=None)
        (pid,) = RUNS.glob("run-*/*.pid")
        threading.Timer(0.2, os.kill, [int(pid.read_text()), 9]).start()
        with pytest.raises(CrashedError, match="killed by SIGKILL during 'group'"):
            session.ask("group", TIMEOUT_S, **ENDLESS)


def test_a_full_disk(phone: Phone, tmp_path: Path) -> None:
    machines.require_root()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", RUNS], check=True)
    try:
        big = tmp_path / "model.tflite"
        big.write_bytes(os.urandom(3_000_000))
        with open_device(address(phone)) as device, pytest.raises(NoSpaceError, match=r"model.tflite \(3.0 MB\)"):
            device.push(big)  # type: ignore[attr-defined]
    finally:
        subprocess.run(["umount", RUNS], check=True)


PROGRAM_OF_A_PHONE = """#!/bin/sh
# Prints as benchmark_model does; the times are of no model.
runs=$(echo "$@" | sed 's/.*--num_runs=\\([0-9]*\\).*/\\1/')
case "$*" in *--graph=*model.tflite*) ;; *) echo "Failed to load model"; exit 1 ;; esac
echo "INFO: Loaded model"
case "$*" in *--use_gpu=true*) echo "Replacing 60 out of 64 node(s) with delegate (TfLiteGpuDelegateV2) node" ;; esac
echo "INFO: count=1 curr=3512"
[ "$runs" = 1 ] && echo "INFO: count=1 curr=2950" ||
    echo "INFO: count=$runs first=2990 curr=2913 min=2727 max=3189 avg=2.95e+03 std=109"
echo "INFO: Inference timings in us: Init: 17187, First inference: 3512, Warmup (avg): 3512, Inference (avg): 2950"
"""


@pytest.fixture
def bare_phone(phone: Phone, tmp_path: Path) -> str:
    """Return the address of a phone that has no Python but is given benchmark_model."""
    program = tmp_path / "benchmark_model"
    program.write_text(PROGRAM_OF_A_PHONE)
    return f"adb:{phone.serial}?benchmark_model={program}"


def test_a_phone_without_python_is_timed_by_benchmark_model(bare_phone: str, tmp_path: Path) -> None:
    model = web_models.write_tflite(tmp_path / "model.tflite")
    done = edgekit("profile", model, "--device", bare_phone, "--seconds", "0.1", "--json")
    assert done.code == 0, done.err
    (text,) = json.loads(done.out).values()
    run = DeviceRun.model_validate(text)
    assert run.difference is None  # it shows no outputs
    assert run.latency is not None
    assert run.latency.runtime == "benchmark_model"
    assert run.latency.p50_ms == 2.95
    assert len(run.latency.samples_ns) >= 30
    assert run.latency.load_ms == 17.187
    shown = edgekit("profile", model, "--device", bare_phone, "--seconds", "0.1")
    assert "outputs not compared" in shown.out


def test_a_gpu_that_does_not_take_every_node_is_said(bare_phone: str, tmp_path: Path) -> None:
    model = web_models.write_tflite(tmp_path / "model.tflite")
    done = edgekit("profile", model, "--device", f"{bare_phone}&accelerator=gpu", "--seconds", "0.1")
    assert done.code == 0, done.err
    assert "60 by GPU, 4 by CPU" in done.out
    assert "cpu_fallback" in done.out


def test_what_benchmark_model_refuses_is_said_in_its_words(bare_phone: str, tmp_path: Path, model: Path) -> None:
    done = edgekit("profile", web_models.write_tflite(tmp_path / "other.tflite"), "--device", bare_phone)
    assert done.code == 5
    assert "Failed to load model" in done.err
    done = edgekit("profile", model, "--device", bare_phone)
    assert done.code == 4
    assert "runs .tflite files" in done.err


def test_a_phone_without_python_is_told_of_benchmark_model() -> None:
    error = missing_python("adb:1", "", lambda command: command)
    assert "adb:1?benchmark_model=PATH" in error.hint


@pytest.mark.parametrize(
    "name", ["adb:1?benchmark_model=/none", "adb:1?pyton=x", "adb:1?python", "adb:1?accelerator=gpu"]
)
def test_what_is_no_address_is_a_mistake_in_the_recipe(name: str) -> None:
    with pytest.raises(RecipeError, match=r"no address|no file|no accelerator"):
        open_device(name)
