"""Interleaved measuring with real runtimes and real processes."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser
import pytest

from edgekit.devices import open_device
from edgekit.errors import DeviceError, StageError
from edgekit.profile.correctness import check_outputs
from edgekit.profile.latency import Job, measure
from edgekit.profile.schedule import Settings, plan_visit, visiting_order
from edgekit.report.schema import Latency

QUICK = Settings(samples=12, seconds=0.01, limit_s=1, warmup_calls=2, warmup_s=0, rounds=4, ops_runs=2)
ROOT = Path(__file__).parents[2]


def onnx_file(path: Path, body: str, size: int = 4) -> Path:
    text = (
        f'<ir_version: 8, opset_import: ["" : 18]> g (float[{size},{size}] x) => (float[{size},{size}] y) {{ {body} }}'
    )
    onnx.save(onnx.parser.parse_model(text), path)
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return onnx_file(tmp_path / "small.onnx", "y = Relu(x)")


def run(*jobs: Job, inputs: Path | None = None) -> dict[str, Latency]:
    settings = replace(QUICK, ops_runs=0)
    with open_device("local") as device:
        return measure(jobs, inputs, threads=1, device=device, settings=settings)


class TestSchedule:
    def test_every_round_visits_all_in_an_order_of_its_own(self) -> None:
        order = visiting_order(["a", "b", "c"], rounds=10, seed=1)
        rounds = [tuple(order[i : i + 3]) for i in range(0, 30, 3)]
        assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
        assert len(set(rounds)) > 1

    def test_the_order_depends_on_the_seed_alone(self) -> None:
        assert visiting_order("abc", 5, 7) == visiting_order("abc", 5, 7)
        assert visiting_order("abc", 5, 7) != visiting_order("abc", 5, 8)

    def test_a_short_call_is_timed_in_batches(self) -> None:
        assert plan_visit(10_000, Settings()).calls_per_sample == 20
        assert plan_visit(300_000, Settings()).calls_per_sample == 1

    def test_a_coarse_clock_takes_longer_batches(self) -> None:
        assert plan_visit(10_000, Settings(), clock_step_ns=100_000).calls_per_sample == 500

    def test_samples_and_seconds_are_both_reached(self) -> None:
        settings = Settings(samples=50, seconds=2, limit_s=10, rounds=10)
        assert plan_visit(1_000_000, settings).samples * 10 == 2000  # 1 ms: 2 s decide
        assert plan_visit(100_000_000, settings).samples * 10 == 50  # 100 ms: 50 samples decide

    def test_the_limit_ends_a_slow_one_with_a_few_samples(self) -> None:
        settings = Settings(samples=50, seconds=2, limit_s=10, rounds=10)
        assert plan_visit(500_000_000, settings).samples * 10 == 20
        assert plan_visit(60_000_000_000, settings).samples * 10 == 10

    def test_a_slow_call_needs_no_lead_in(self) -> None:
        assert plan_visit(200_000_000, Settings()).lead_in_calls == 0
        assert plan_visit(1_000_000, Settings()).lead_in_calls > 0


@dataclass
class Measured:
    latencies: dict[str, Latency]
    progress: list[float] = field(default_factory=list)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    folder = tmp_path_factory.mktemp("measured")
    relu = onnx_file(folder / "relu.onnx", "y = Relu(x)")
    product = onnx_file(folder / "product.onnx", "y = MatMul(x, x)", size=256)
    seen: list[float] = []
    with open_device("local") as device:
        latencies = measure(
            [Job("relu", relu, "onnx"), Job("product", product, "onnx")],
            None,
            threads=1,
            device=device,
            settings=QUICK,
            progress=lambda done, what: seen.append(done),
        )
    return Measured(latencies, seen)


class TestMeasure:
    def test_a_heavier_model_is_slower(self, measured: Measured) -> None:
        # 256^3 multiply-adds against 16 comparisons: 100 times on any machine, so 2 cannot be noise.
        assert measured.latencies["product"].min_ms > 2 * measured.latencies["relu"].min_ms

    def test_a_latency_is_complete_and_consistent(self, measured: Measured) -> None:
        latency = measured.latencies["relu"]
        assert len(latency.samples_ns) >= QUICK.samples
        assert 0 < latency.min_ms <= latency.p50_ms <= latency.p90_ms <= latency.p99_ms
        assert latency.min_ms == min(latency.samples_ns) / 1e6
        assert latency.calls_per_sample > 1  # a Relu of 16 values is far below the timer floor
        assert (latency.place, latency.runtime, latency.threads) == ("host", "onnxruntime", 1)
        assert latency.load_ms > 0
        assert latency.first_call_ms > 0
        assert latency.peak_memory_bytes > 20e6

    def test_every_artifact_has_its_ops(self, measured: Measured) -> None:
        kinds = {name: [op.kind for op in found.ops] for name, found in measured.latencies.items()}
        assert kinds == {"relu": ["Relu"], "product": ["MatMul"]}

    def test_progress_only_grows_and_ends_at_one(self, measured: Measured) -> None:
        assert measured.progress == sorted(measured.progress)
        assert measured.progress[-1] == 1.0

    def test_per_op_times_that_are_missing_leave_a_reason(self, small: Path) -> None:
        latency = run(Job("relu", small, "onnx"))["relu"]
        assert latency.ops == []
        assert "not asked for" in latency.ops_note

    def test_per_op_times_that_fail_leave_a_reason(self, small: Path) -> None:
        def remove(done: float, what: str) -> None:
            if what.startswith("per-op"):
                small.unlink()

        with open_device("local") as device:
            job = Job("relu", small, "onnx")
            latency = measure([job], None, threads=1, device=device, settings=QUICK, progress=remove)["relu"]
        assert latency.min_ms > 0
        assert latency.ops == []
        assert "small.onnx" in latency.ops_note

    def test_nothing_to_measure_is_nothing_measured(self) -> None:
        assert run() == {}

    def test_two_jobs_of_one_name_are_refused(self, small: Path) -> None:
        with pytest.raises(StageError, match="same name"):
            run(Job("a", small, "onnx"), Job("a", small, "onnx"))


class TestCorrectness:
    RIGHT = np.array([0.0, -4.0, 2.0], np.float32)

    def check(self, folder: Path, got: Any, tolerance: float = 1e-4, **expected: Any) -> None:
        np.savez(folder / "out.npz", **expected)
        data = base64.b64encode(got.tobytes()).decode()
        reply = {"name": "y", "shape": list(got.shape), "dtype": got.dtype.name, "data": data}
        check_outputs("tiny", [reply], folder / "out.npz", tolerance)

    def test_the_right_output_passes(self, tmp_path: Path) -> None:
        self.check(tmp_path, self.RIGHT, tolerance=0, y=self.RIGHT)

    def test_tolerance_is_a_share_of_the_range(self, tmp_path: Path) -> None:
        off = self.RIGHT + np.array([0.04, 0, 0], np.float32)  # 0.01 of the largest magnitude, 4
        self.check(tmp_path, off, tolerance=0.011, y=self.RIGHT)
        with pytest.raises(StageError, match=r"tiny: output y is off by 0\.01 of its range"):
            self.check(tmp_path, off, tolerance=0.009, y=self.RIGHT)

    def test_integers_do_not_wrap_around(self, tmp_path: Path) -> None:
        with pytest.raises(StageError, match="off by 254 steps"):
            self.check(tmp_path, np.array([127], np.int8), y=np.array([-127], np.int8))

    def test_an_output_of_another_name_or_shape_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(StageError, match="no output named z; it has y"):
            self.check(tmp_path, self.RIGHT, z=self.RIGHT)
        with pytest.raises(StageError, match="has shape"):
            self.check(tmp_path, self.RIGHT, y=self.RIGHT[:1])

    def test_nan_and_infinity_are_refused_without_any_expectation(self, tmp_path: Path) -> None:
        bad = np.array([np.nan, np.inf, 1], np.float32)
        with pytest.raises(StageError, match="tiny: output y has 2 values that are NaN or infinite, of 3"):
            self.check(tmp_path, bad)

    def test_the_others_are_timed_without_one_that_does_not_load(self, tmp_path: Path, small: Path) -> None:
        broken = tmp_path / "broken.onnx"
        broken.write_bytes(b"no model")
        failed: dict[str, StageError] = {}
        jobs = [Job("broken", broken, "onnx"), Job("small", small, "onnx")]
        with open_device("local") as device:
            measured = measure(
                jobs, None, threads=1, device=device, settings=replace(QUICK, ops_runs=0), failed=failed.__setitem__
            )
        assert set(measured) == {"small"}
        assert "broken" in failed["broken"].message

    def test_a_wrong_output_is_refused_before_any_timing(self, tmp_path: Path, small: Path) -> None:
        np.savez(tmp_path / "in.npz", x=np.ones((4, 4), np.float32))
        np.savez(tmp_path / "out.npz", y=np.full((4, 4), 2, np.float32))
        with pytest.raises(StageError, match=r"relu: output y is off by 0\.5 of its range"):
            run(Job("relu", small, "onnx", tmp_path / "out.npz"), inputs=tmp_path / "in.npz")


class TestFailure:
    def test_a_bad_file_names_its_artifact(self, tmp_path: Path, small: Path) -> None:
        bad = tmp_path / "bad.onnx"
        bad.write_bytes(b"garbage")
        with pytest.raises(StageError, match="broken: onnxruntime"):
            run(Job("relu", small, "onnx"), Job("broken", bad, "onnx"))

    def test_a_killed_process_names_its_artifact_and_leaves_no_other(self, small: Path) -> None:
        before = set(children(os.getpid()))  # of other tests: a helper of multiprocessing stays until the end

        def kill_when_timing(done: float, what: str) -> None:
            if what.startswith("timing"):
                os.kill(max(set(children(os.getpid())) - before), signal.SIGKILL)

        with open_device("local") as device, pytest.raises(DeviceError, match=r"b: .*SIGKILL"):
            measure(
                [Job("a", small, "onnx"), Job("b", small, "onnx")],
                None,
                threads=1,
                device=device,
                settings=replace(QUICK, seconds=60, limit_s=60),
                progress=kill_when_timing,
            )
        assert set(children(os.getpid())) <= before

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_an_interrupt_leaves_no_process_behind(self, small: Path, number: signal.Signals) -> None:
        with subprocess.Popen(
            [sys.executable, "-c", _LONG_MEASUREMENT, str(small)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # a shell's background jobs ignore SIGINT and pass that on
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            agents = children(process.pid)
            assert len(agents) == 2
            process.send_signal(number)
            process.wait(20)
        end = time.monotonic() + 5
        while any(alive(pid) for pid in agents) and time.monotonic() < end:
            time.sleep(0.02)
        assert not any(alive(pid) for pid in agents)


_LONG_MEASUREMENT = """
import sys
from pathlib import Path
from edgekit.devices import open_device
from edgekit.profile.correctness import check_outputs
from edgekit.profile.latency import Job, measure
from edgekit.profile.schedule import Settings
path = Path(sys.argv[1])
measure(
    [Job("a", path, "onnx"), Job("b", path, "onnx")], None, threads=1, device=open_device("local"),
    settings=Settings(seconds=600, limit_s=600, warmup_s=0),
    progress=lambda done, what: print(what, flush=True) if what.startswith("timing") else None,
)
"""


def children(pid: int) -> list[int]:
    """Return the processes whose parent is ``pid``, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and alive(int(entry.name)) and stat(int(entry.name))[1] == str(pid):
            found.append(int(entry.name))
    return sorted(found)


def alive(pid: int) -> bool:
    return stat(pid)[0] not in ("", "Z")


def stat(pid: int) -> list[str]:
    """Return state and parent of a process; the state is "" where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return ["", ""]
