"""The agent process and the connection to it: protocol, deaths, deadlines, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

from edgekit.devices import connection as connections
from edgekit.devices import open_device
from edgekit.devices.connection import Connection
from edgekit.devices.local import LocalDevice
from edgekit.errors import DependencyError, DeviceError, RecipeError, StageError
from edgekit.runtimes import AGENT, runtime_file

TWO_INPUTS = """
    <ir_version: 8, opset_import: ["" : 18]>
    total (float[1,3] left, float[1,3] right) => (float[1,3] y) { y = Sub(left, right) }
"""
TIMEOUT_S = 60.0  # far above what an answer takes here (0.3 s): only a bug reaches it


def connect() -> Connection:
    return LocalDevice().connect("tiny")


@pytest.fixture(scope="module")
def shared() -> Iterator[Connection]:
    """One agent for all tests of the protocol: a process takes its time to start."""
    with connect() as connection:
        yield connection


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(onnx.parser.parse_model(TWO_INPUTS), path)
    return path


def load(connection: Connection, model: Path, inputs: Path | None = None) -> dict[str, Any]:
    return connection.ask("load", TIMEOUT_S, path=model, format="onnx", threads=1, inputs=inputs)


def use(monkeypatch: pytest.MonkeyPatch, runtime: Path) -> None:
    """Have ``load`` send this module instead of the format's own."""
    monkeypatch.setitem(connections._FILE_OF_THE_FORMAT, "load", ("runtime", lambda format: runtime))


def is_gone(pid: int, within_s: float = 5.0) -> bool:
    """Wait until a process that is not our child has ended (or is a zombie that nobody reaps)."""
    status = Path(f"/proc/{pid}/stat")
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.02)
    return False


class TestProtocol:
    def test_load_reports_runtime_and_times(self, shared: Connection, model: Path) -> None:
        reply = load(shared, model)
        assert reply["runtime"] == "onnxruntime"
        assert reply["load_ns"] > 0
        assert reply["first_call_ns"] > 0

    def test_a_group_has_one_time_per_sample(self, shared: Connection, model: Path) -> None:
        load(shared, model)
        reply = shared.ask("group", TIMEOUT_S, samples=7, calls_per_sample=3, lead_in=1, limit_s=60)
        assert len(reply["samples_ns"]) == 7
        assert min(reply["samples_ns"]) > 0

    def test_the_limit_ends_a_group_early_but_not_empty(self, shared: Connection, model: Path) -> None:
        load(shared, model)
        endless = {"samples": 10**9, "calls_per_sample": 1, "lead_in": 0}
        start = time.perf_counter()
        assert len(shared.ask("group", TIMEOUT_S, limit_s=0.05, **endless)["samples_ns"]) > 1
        assert time.perf_counter() - start < 5  # 0.05 s, with room for a busy machine
        assert len(shared.ask("group", TIMEOUT_S, limit_s=0, **endless)["samples_ns"]) == 1

    def test_warm_up_reaches_both_its_calls_and_its_seconds(self, shared: Connection, model: Path) -> None:
        load(shared, model)
        start = time.perf_counter()
        assert shared.ask("warmup", TIMEOUT_S, calls=3, seconds=0.2)["calls"] > 3
        assert time.perf_counter() - start >= 0.2
        assert shared.ask("warmup", TIMEOUT_S, calls=3, seconds=0)["calls"] == 3

    def test_memory_is_of_this_process_alone(self, shared: Connection, model: Path) -> None:
        before = load(shared, model)["before_load_bytes"]
        peak = shared.ask("memory", TIMEOUT_S)["peak_bytes"]
        # Python, numpy and the runtime's library take 20 to 200 MB: less or more is the wrong process.
        assert 20e6 < before <= peak < 400e6

    def test_ops_are_timed(self, shared: Connection, model: Path) -> None:
        reply = shared.ask("ops", TIMEOUT_S, path=model, format="onnx", threads=1, runs=3)
        assert [op["kind"] for op in reply["ops"]] == ["Sub"]

    def test_inputs_are_matched_by_name(self, shared: Connection, model: Path, tmp_path: Path) -> None:
        one, two = np.ones((1, 3), np.float32), np.full((1, 3), 2, np.float32)
        np.savez(tmp_path / "in.npz", right=one, left=two)
        load(shared, model, tmp_path / "in.npz")
        (output,) = shared.ask("outputs", TIMEOUT_S)["outputs"]
        assert (output["name"], output["shape"], output["dtype"]) == ("y", [1, 3], "float32")
        assert output["data"] == "AACAPwAAgD8AAIA/"  # base64 of 1.0 three times: 2 - 1, not 1 - 2

    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ({"left": np.ones((1, 3), np.float32)}, "no input named right"),
            ({"left": np.ones((1, 3), np.float32), "right": np.ones((3, 1), np.float32)}, "takes shape"),
            ({"left": np.ones((1, 3), np.complex64), "right": np.ones((1, 3), np.float32)}, "complex64"),
        ],
    )
    def test_inputs_that_do_not_fit_are_named(
        self, shared: Connection, model: Path, tmp_path: Path, inputs: dict[str, Any], message: str
    ) -> None:
        np.savez(tmp_path / "in.npz", **inputs)
        with pytest.raises(StageError, match=f"tiny: .*{message}"):
            load(shared, model, tmp_path / "in.npz")

    def test_a_missing_runtime_is_a_dependency_error(
        self, shared: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        runtime = tmp_path / "runtime.py"
        runtime.write_text("import a_runtime_nobody_has")
        use(monkeypatch, runtime)
        with pytest.raises(DependencyError, match="missing on local: No module named 'a_runtime_nobody_has'"):
            load(shared, runtime)

    def test_what_a_runtime_prints_does_not_break_the_replies(
        self, shared: Connection, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        noisy = tmp_path / "noisy.py"
        noisy.write_text(runtime_file("onnx").read_text() + "\nimport os; os.write(1, b'half a line')\n")
        use(monkeypatch, noisy)
        assert load(shared, model)["runtime"] == "onnxruntime"

    def test_usage_counts_its_own_work(self, shared: Connection, model: Path) -> None:
        load(shared, model)
        before = shared.ask("usage", TIMEOUT_S)
        shared.ask("warmup", TIMEOUT_S, calls=0, seconds=0.2)
        after = shared.ask("usage", TIMEOUT_S)
        own = after["own_s"] - before["own_s"]
        assert 0 < own <= after["clock_s"] - before["clock_s"]
        assert after["busy_s"] - before["busy_s"] >= own - 0.05  # /proc/stat counts in ticks of 10 ms

    def test_it_answers_again_after_an_error(self, shared: Connection, model: Path) -> None:
        with pytest.raises(StageError, match="absent"):
            load(shared, model.with_name("absent.onnx"))
        assert load(shared, model)["runtime"] == "onnxruntime"


class TestDeath:
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
    def test_a_signal_in_the_middle_of_a_group_is_named(self, model: Path, number: signal.Signals) -> None:
        with connect() as connection:
            load(connection, model)
            killer = threading.Timer(0.1, connection.process.send_signal, [number])
            killer.start()
            with pytest.raises(DeviceError, match=rf"tiny: .*killed by {number.name} during 'group'"):
                connection.ask("group", TIMEOUT_S, samples=10**9, calls_per_sample=1, lead_in=0, limit_s=60)
            killer.join()

    def test_last_words_are_in_the_message(self, tmp_path: Path) -> None:
        script = tmp_path / "agent.py"
        script.write_text("import sys; sys.stderr.write('first\\nno such board\\n'); sys.exit(3)")
        with LocalDevice().connect("tiny", script) as connection:
            with pytest.raises(DeviceError, match="exit code 3") as caught:
                connection.ask("memory", TIMEOUT_S)
            assert "no such board" in caught.value.message

    def test_a_hanging_process_is_out_of_time_and_killed(self) -> None:
        with connect() as connection:
            connection.process.send_signal(signal.SIGSTOP)
            with pytest.raises(DeviceError, match="tiny: no answer to 'memory' on local within 0 s"):
                connection.ask("memory", 0.2)
            assert connection.process.poll() == -signal.SIGKILL

    def test_leaving_the_context_ends_it(self) -> None:
        with connect() as connection:
            connection.ask("memory", TIMEOUT_S)
        assert connection.process.returncode == 0

    def test_an_error_in_the_context_ends_it_at_once(self) -> None:
        with pytest.raises(KeyboardInterrupt):  # noqa: SIM117 - the context under test is the inner one
            with connect() as connection:
                raise KeyboardInterrupt
        assert connection.process.returncode == -signal.SIGKILL


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="PR_SET_PDEATHSIG is of Linux")
def test_an_agent_dies_with_its_parent_even_while_busy(model: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT, str(model)], stdout=subprocess.PIPE, cwd=AGENT.parents[2])
    with parent:
        assert parent.stdout is not None
        agent = int(parent.stdout.readline())
        os.kill(agent, 0)
        parent.kill()
        assert is_gone(agent)


_PARENT = """
import sys
from pathlib import Path
from edgekit.devices import open_device
connection = open_device("local").connect("tiny")
connection.ask("load", 60, path=Path(sys.argv[1]), format="onnx", threads=1)
print(connection.process.pid, flush=True)
connection.ask("group", 60, samples=10**9, calls_per_sample=1, lead_in=0, limit_s=60)
"""


def test_this_machine_is_the_host_and_says_what_it_is() -> None:
    with open_device("local") as device:
        facts = device.describe()
    assert device.place == "host"
    assert facts["cpu"]
    assert facts["cores"] >= 1
    assert facts["memory_bytes"] > 1e8
    assert facts["emulated"] is False


def test_an_unknown_device_is_a_mistake_in_the_recipe() -> None:
    with pytest.raises(RecipeError, match="toaster"):
        open_device("toaster:1")
