"""A board over a real ssh to a real sshd on loopback: what works, and every way in which it fails."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import counting_agent
import machines
import numpy as np
import onnx.parser
import pytest
from machines import Sshd

from edgekit.devices import keeper, open_device
from edgekit.devices.identity import identity
from edgekit.devices.shell import ShellDevice
from edgekit.devices.ssh import PROGRAM
from edgekit.errors import (
    CrashedError,
    DeviceError,
    DroppedError,
    HostKeyError,
    NoSpaceError,
    RecipeError,
    RuntimeMissingError,
    UnauthorizedError,
    UnreachableError,
)  # fmt: skip

TIMEOUT_S = 60.0
GRACE_S = 25.0  # a device waits 15 s for a connection to come back
NOTICED_S = 15.0  # a device that is gone is noticed within this
ENDLESS = {"samples": 10**9, "calls_per_sample": 1, "lead_in": 0, "limit_s": 60}
DOUBLE = '<ir_version: 8, opset_import: ["" : 18]> g (float[1,3] x) => (float[1,3] y) { y = Add(x, x) }'


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "my model.onnx"
    onnx.save(onnx.parser.parse_model(DOUBLE), path)
    return path


def opened(board: Sshd) -> ShellDevice:
    device = open_device(board.address)
    assert isinstance(device, ShellDevice)
    return device


def gone(pid: int, within_s: float = 10.0) -> bool:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not Path(f"/proc/{pid}").exists():
            return True
        time.sleep(0.05)
    return False


def agent_pid(board: Sshd) -> int:
    (pid,) = board.runs.glob("run-*/*.pid")
    return int(pid.read_text())


class TestWorking:
    def test_an_artifact_runs_there_and_nothing_stays(self, board: Sshd, model: Path, tmp_path: Path) -> None:
        np.savez(tmp_path / "in.npz", x=np.array([[1, 2, 3]], np.float32))
        with opened(board) as device:
            assert device.place == "device"
            assert device.describe()["machine"] == os.uname().machine
            with device.connect("tiny") as session:
                inputs = tmp_path / "in.npz"
                loaded = session.ask("load", TIMEOUT_S, path=model, format="onnx", threads=1, inputs=inputs)
                assert loaded["runtime"] == "onnxruntime"
                (output,) = session.ask("outputs", TIMEOUT_S)["outputs"]
                assert output["data"] == "AAAAQAAAgEAAAMBA"  # 2, 4, 6
                reply = session.ask("group", TIMEOUT_S, samples=5, calls_per_sample=2, lead_in=1, limit_s=10)
                assert len(reply["samples_ns"]) == 5
            with device.connect("tiny") as session:
                reply = session.ask("ops", TIMEOUT_S, path=model, format="onnx", threads=1, runs=2)
                assert [op["kind"] for op in reply["ops"]] == ["Add"]

    def test_a_file_goes_there_once_and_whole(self, board: Sshd, tmp_path: Path) -> None:
        content = tmp_path / "it's a $file"
        content.write_bytes(bytes(range(256)) * 4000)
        with opened(board) as device:
            there = device.push(content)
            assert Path(there).read_bytes() == content.read_bytes()
            Path(there).unlink()
            assert device.push(content) == there  # known by its content: not sent again
            assert not Path(there).exists()

    def test_the_exit_status_of_a_command_is_its_own(self, board: Sshd) -> None:
        with opened(board) as device:
            assert device.run("echo out; echo err >&2; exit 255").status == 255  # ssh's own code for a lost connection
            done = device.run("printf 'no newline'; exit 3")
            assert (done.status, done.stdout) == (3, b"no newline")

    def test_two_runs_wait_for_each_other(self, board: Sshd) -> None:
        entered = threading.Event()

        def second() -> None:
            with opened(board):
                entered.set()

        with opened(board):
            thread = threading.Thread(target=second)
            thread.start()
            assert not entered.wait(0.5)
        thread.join(TIMEOUT_S)
        assert entered.is_set()


class TestIdentity:
    def test_it_stays_until_another_device_takes_the_address(
        self, board: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = identity(board.address)
        assert first == identity(board.address)
        assert first["cpu"]
        assert any(runtime.startswith("onnxruntime") for runtime in first["runtimes"])
        with machines.sshd(tmp_path / "other", {"EDGEKIT_EMULATED": "1", "XDG_CACHE_HOME": str(tmp_path)}) as other:
            monkeypatch.setenv(PROGRAM, other.program)
            assert identity(other.address) != first


class TestAddress:
    @pytest.mark.parametrize("address", ["ssh://", "ssh://pi@board:port", "ssh://board/folder", "ssh://board?pyton=x"])
    def test_what_is_none_is_a_mistake_in_the_recipe(self, address: str) -> None:
        with pytest.raises(RecipeError, match=r"address of a device|not a number"):
            open_device(address)

    def test_an_option_in_disguise_is_only_a_host(self, board: Sshd, tmp_path: Path) -> None:
        trap = tmp_path / "trap"
        with pytest.raises((RecipeError, DeviceError)), open_device(f"ssh://-oProxyCommand=touch%20{trap.name}"):
            pass
        assert not Path(trap.name).exists()


class TestNotReached:
    def test_refused(self, board: Sshd) -> None:
        with pytest.raises(UnreachableError, match="nothing listens") as caught, open_device("ssh://127.0.0.1:1"):
            pass
        assert "enable --now ssh" in caught.value.hint

    def test_no_such_host(self, board: Sshd) -> None:
        with pytest.raises(UnreachableError, match="no such host"), open_device("ssh://no-such-board.invalid"):
            pass

    def test_an_unknown_host_key(self, board: Sshd) -> None:
        known = board.folder / "known_hosts"
        kept = known.read_text()
        known.write_text("")
        try:
            with pytest.raises(HostKeyError, match="not known yet") as caught, opened(board):
                pass
            assert known.read_text() == ""  # edgekit accepts no key by itself
        finally:
            known.write_text(kept)
        assert f"-p {board.port} 127.0.0.1" in caught.value.hint

    def test_a_changed_host_key(self, board: Sshd, tmp_path: Path) -> None:
        known = board.folder / "known_hosts"
        kept = known.read_text()
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
        known.write_text(f"[127.0.0.1]:{board.port} {(tmp_path / 'other.pub').read_text()}")
        try:
            with pytest.raises(HostKeyError, match="not the machine") as caught, opened(board):
                pass
        finally:
            known.write_text(kept)
        assert f"ssh-keygen -R '[127.0.0.1]:{board.port}'" in caught.value.hint

    def test_a_key_that_it_refuses(self, board: Sshd) -> None:
        allowed = board.folder / "authorized_keys"
        kept = allowed.read_text()
        allowed.write_text("")
        try:
            with pytest.raises(UnauthorizedError, match="refuses your key") as caught, opened(board):
                pass
        finally:
            allowed.write_text(kept)
        assert f"ssh-copy-id -p {board.port} 127.0.0.1" in caught.value.hint

    def test_no_ssh_program(self, board: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(PROGRAM, "no-such-ssh")
        with pytest.raises(Exception, match="no program no-such-ssh") as caught, opened(board):
            pass
        assert getattr(caught.value, "exit_code", 0) == 3


class TestLost:
    def test_a_finished_result_is_fetched_after_reconnecting(self, board: Sshd, tmp_path: Path) -> None:
        with opened(board) as device, device.connect("tiny", counting_agent.write(tmp_path)) as session:
            assert session.ask("memory", TIMEOUT_S)["peak_bytes"] > 0
            for times in (1, 2):
                agent = agent_pid(board)
                threading.Timer(0.3, board.kill_sessions).start()
                assert session.ask("count", TIMEOUT_S, seconds=1.5) == {"calls": times}  # not run again
                assert agent_pid(board) == agent
                assert session.ask("memory", TIMEOUT_S)["peak_bytes"] > 0

    def test_other_sessions_of_a_connection_that_broke_live_on(self, board: Sshd, tmp_path: Path) -> None:
        script = counting_agent.write(tmp_path)
        with opened(board) as device, device.connect("one", script) as one, device.connect("two", script) as two:
            assert two.ask("count", TIMEOUT_S, seconds=0) == {"calls": 1}
            board.kill_sessions()
            assert one.ask("count", TIMEOUT_S, seconds=0) == {"calls": 2}
            assert two.ask("count", TIMEOUT_S, seconds=0) == {"calls": 3}

    def test_a_program_that_is_to_run_once_does(self, board: Sshd, tmp_path: Path) -> None:
        script = f"echo x >> {tmp_path}/runs; sleep 1.5; echo out; echo err >&2; exit 3"
        with opened(board) as device:
            threading.Timer(0.3, board.kill_sessions).start()
            done = device.run(script, once=True)
        assert (done.status, done.stdout, done.stderr) == (3, b"out\n", ["err"])
        assert (tmp_path / "runs").read_text() == "x\n"

    def test_a_device_that_does_not_come_back(
        self, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with machines.sshd(tmp_path, {"XDG_CACHE_HOME": f"{tmp_path}/cache"}) as board:
            monkeypatch.setenv(PROGRAM, board.program)
            with opened(board) as device, device.connect("tiny") as session:
                session.ask("load", TIMEOUT_S, path=model, format="onnx", threads=1, inputs=None)
                agent = agent_pid(board)
                threading.Timer(0.2, board.switch_off).start()
                start = time.monotonic()
                with pytest.raises(DroppedError, match=r"tiny, during 'group': ssh://.*connection was lost"):
                    session.ask("group", TIMEOUT_S, **ENDLESS)
                assert time.monotonic() - start < NOTICED_S
            assert gone(agent, GRACE_S), "the agent runs on although nobody comes back"
            assert not list(board.runs.glob("run-*"))

    def test_a_device_that_freezes_midway(self, board: Sshd, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keeper, "_GRACE_S", 2)
        with opened(board) as device, device.connect("tiny") as session:
            session.ask("load", TIMEOUT_S, path=model, format="onnx", threads=1, inputs=None)
            board.freeze()
            start = time.monotonic()
            try:
                with pytest.raises(DroppedError, match="answered nothing"):
                    session.ask("group", TIMEOUT_S, **ENDLESS)
                assert time.monotonic() - start < NOTICED_S
            finally:
                board.freeze(stop=False)
        end = time.monotonic() + 10
        while list(board.runs.glob("run-*")) and time.monotonic() < end:
            time.sleep(0.1)  # thawed, it notices that nobody is there, and cleans up

    def test_what_a_lost_run_left_is_ended_before_the_next(self, board: Sshd) -> None:
        left = board.runs / "run-left"
        left.mkdir(parents=True)
        script = left / "agent.sh"
        script.write_text("sleep 60")
        with subprocess.Popen(["sh", script]) as agent:
            owner = subprocess.run(["whoami"], capture_output=True, text=True, check=True).stdout.strip()
            (left / "owner").write_text(f"{owner}@{os.uname().nodename}\n")
            with opened(board):
                assert agent.wait(10) == -signal.SIGKILL
                assert not left.exists()

    def test_somebody_else_measuring_there_is_left_in_peace(self, board: Sshd) -> None:
        other = board.runs / "run-other"
        other.mkdir(parents=True)
        script = other / "agent.sh"
        script.write_text("sleep 60")
        try:
            with subprocess.Popen(["sh", script]) as agent:
                (other / "owner").write_text("ada@elsewhere\n")
                with pytest.raises(DeviceError, match="ada@elsewhere is measuring there"), opened(board):
                    pass
                assert agent.poll() is None
                agent.kill()
        finally:
            shutil.rmtree(other)


class TestProgramThere:
    def test_killed_by_the_kernel(self, board: Sshd, model: Path) -> None:
        with opened(board) as device, device.connect("tiny") as session:
            session.ask("load", TIMEOUT_S, path=model, format="onnx", threads=1, inputs=None)
            threading.Timer(0.2, os.kill, [agent_pid(board), signal.SIGKILL]).start()
            with pytest.raises(CrashedError, match="killed by SIGKILL during 'group'") as caught:
                session.ask("group", TIMEOUT_S, **ENDLESS)
        assert "memory" in caught.value.hint

    def test_its_own_exit_code_255_is_no_lost_connection(self, board: Sshd, tmp_path: Path) -> None:
        script = tmp_path / "agent.py"
        script.write_text("import sys; sys.stderr.write('no such board'); sys.exit(255)")
        with opened(board) as device, device.connect("tiny", script) as session:
            with pytest.raises(CrashedError, match="exit code 255") as caught:
                session.ask("memory", TIMEOUT_S)
            assert "no such board" in caught.value.message

    def test_no_python(self, board: Sshd) -> None:
        with (
            open_device(f"ssh://127.0.0.1:{board.port}?python=/opt/none/python3") as device,
            pytest.raises(RuntimeMissingError, match="has no /opt/none/python3"),
        ):
            device.describe()

    @pytest.mark.parametrize(
        ("failure", "cure"),
        [
            ("ModuleNotFoundError(\"No module named 'onnxruntime'\")", "pip install onnxruntime"),
            ("ImportError('libstdc++.so.6: cannot open shared object file: No such file')", "apt install libstdc"),
        ],
    )
    def test_a_missing_runtime(self, board: Sshd, model: Path, tmp_path: Path, failure: str, cure: str) -> None:
        (tmp_path / "onnxruntime.py").write_text(f"raise {failure}")
        python = tmp_path / "python3"
        python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        with open_device(f"ssh://127.0.0.1:{board.port}?python={python}") as device:
            device.describe()
            with (
                device.connect("tiny") as session,
                pytest.raises(RuntimeMissingError, match=r"no runtime for \.onnx") as caught,
            ):
                session.ask("load", TIMEOUT_S, path=model, format="onnx", threads=1, inputs=None)
        assert cure in caught.value.hint
        assert f"-p {board.port} 127.0.0.1" in caught.value.hint

    def test_a_full_disk(self, board: Sshd, tmp_path: Path) -> None:
        machines.require_root()
        board.runs.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", board.runs], check=True)
        try:
            big = tmp_path / "model.tflite"
            big.write_bytes(os.urandom(3_000_000))
            with opened(board) as device, pytest.raises(NoSpaceError, match=r"model.tflite \(3.0 MB\).* MB are free"):
                device.push(big)
        finally:
            subprocess.run(["umount", board.runs], check=True)

    def test_a_copy_of_the_right_length_with_other_content_is_refused(self, board: Sshd, tmp_path: Path) -> None:
        (tmp_path / "bin").mkdir()
        cat = tmp_path / "bin" / "cat"
        cat.write_text("#!/bin/sh\n/bin/cat | tr a b\n")
        cat.chmod(0o755)
        content = tmp_path / "model.onnx"
        content.write_bytes(b"aaaa")
        with opened(board) as device:
            run = device.run
            device.run = lambda script, *rest: run(f"PATH={cat.parent}:$PATH; {script}", *rest)  # type: ignore[method-assign]
            with pytest.raises(DeviceError, match="arrived damaged"):
                device.push(content)
