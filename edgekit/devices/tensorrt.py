"""A Jetson: TensorRT's own ``trtexec`` builds the engine there from the ONNX file and times it.

Read, not run: no Jetson was at hand. Options and files as in TensorRT's samples/common/sampleReporting.cpp and
sampleOptions.cpp (github.com/NVIDIA/TensorRT, releases 8 to 10); success is its last line, never its exit code.
"""

from __future__ import annotations

import base64
import json
import re
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edgekit.devices.connection import last_words
from edgekit.devices.program_session import Answer, ProgramSession, Shell
from edgekit.errors import RuntimeMissingError, StageError, UnsupportedError

RUNTIME = "TensorRT"
_PROGRAMS = "command -v trtexec || ls /usr/src/tensorrt/bin/trtexec"  # JetPack's place is not in PATH
_PASSED = "&&&& PASSED TensorRT.trtexec"
_VERSION = re.compile(r"\[TensorRT v(\d+)\]")
_LOADED = re.compile(r"Engine (?:deserialized|loaded) in ([\d.eE+-]+) sec")
_BUILD_S = 1800.0  # a Jetson Nano takes minutes for what a PC builds in seconds
_WARMUP_MS = 200
_FLOAT16 = 1e-2  # of an output's range: engines compute in float16
_LAST_LINES = 8
_READING_S = 0.1
_AFTER = 1  # the last reading may be of the time after the last call


class TrtexecSession(ProgramSession):
    """One .onnx file as an engine on the device."""

    def __init__(self, device: Shell, artifact: str, folder: str) -> None:
        answers: dict[str, Answer] = {
            "load": self._load, "outputs": self._shown, "warmup": self._warmup, "group": self._group, "ops": self._ops,
            "energy": self._energy,
        }  # fmt: skip
        super().__init__(device, artifact, answers)
        self.folder = folder
        self._program = ""
        self._engine = ""
        self._outputs: list[dict[str, Any]] = []

    def _load(self, timeout_s: float, path: Path, format: str, inputs: Path | None, **_unused: Any) -> dict[str, Any]:
        if format != "onnx":
            raise UnsupportedError(f"{self.artifact}: TensorRT reads .onnx files, not .{format}")
        self._program = self._find()
        given = f"--loadInputs={self._given(inputs)}" if inputs else ""
        graph = self.device.push(path)
        self._engine = f"{graph}.engine"
        integers = "--int8" if b"DequantizeLinear" in path.read_bytes() else ""
        if self.device.run(f"test -s {shlex.quote(self._engine)}").status:  # a session before may have built it
            build = f"--onnx={shlex.quote(graph)} --saveEngine={shlex.quote(self._engine)} --fp16 {integers}"
            self._run(f"{build} --iterations=1 --duration=0 --warmUp=0", _BUILD_S)
        self._engine = f"--loadEngine={shlex.quote(self._engine)} {given}"
        said, written = self._run(f"{self._engine} --iterations=1 --duration=0 --warmUp=0", timeout_s, "exportOutput")
        self._outputs = [_output(item) for item in written]
        (first,) = self._times(timeout_s, 1, 1, warmup_ms=0)
        loaded = _LOADED.search(said)
        version = _VERSION.search(said)
        return {
            "runtime": RUNTIME, "version": version[1] if version else "unknown", "inputs": [], "outputs": [],
            "load_ns": int(float(loaded[1]) * 1e9) if loaded else 0, "first_call_ns": first, "before_load_bytes": 0,
            "tolerance": _FLOAT16,
        }  # fmt: skip

    def _shown(self, timeout_s: float) -> dict[str, Any]:
        return {"outputs": self._outputs}

    def _warmup(self, timeout_s: float, calls: int, seconds: float) -> dict[str, Any]:
        times = self._times(timeout_s, max(calls, 10), 1)
        return {"calls": len(times), "fastest_ns": min(times)}

    def _group(
        self, timeout_s: float, samples: int, calls_per_sample: int, lead_in: int, limit_s: float
    ) -> dict[str, Any]:
        return {"samples_ns": self._times(timeout_s + limit_s, samples, calls_per_sample)}

    def _ops(self, timeout_s: float, path: Path, format: str, threads: int, runs: int) -> dict[str, Any]:
        self._load(_BUILD_S, path, format, None)
        options = f"{self._engine} --iterations={runs} --duration=0 --dumpProfile --separateProfileRun"
        _, layers = self._run(options, timeout_s, "exportProfile")
        return {
            "ops": [{"name": one["name"], "kind": "layer", "ms": one["averageMs"]} for one in layers if "name" in one]
        }

    def _energy(self, timeout_s: float, meter: list[str], seconds: float) -> dict[str, Any]:
        """Run back to back while the meter writes; its readings of that time are the last before the end.

        Calls count by how far apart they start: copies of one overlap with another's computing.
        """
        call_ns = median(self._times(timeout_s, 10, 1))
        count = max(10, round(seconds * 1e9 / call_ns))
        readings = f"{self.folder}/readings"
        options = f"{self._engine} --iterations={count} --duration=0 --warmUp={_WARMUP_MS} --useSpinWait"
        around = f"{shlex.join(meter)} > {shlex.quote(readings)} & m=$!; {{command}}; s=$?; kill $m; (exit $s)"
        _, trace = self._run(options, timeout_s + 10 * seconds, "exportTimes", around)
        starts = [one["startComputeMs"] for one in trace][-count:]
        spent_s = (starts[-1] - starts[0]) / 1000
        lines = self.device.run(f"cat {shlex.quote(readings)}").stdout.decode("utf-8", "replace").splitlines()
        last = int(spent_s / _READING_S)
        return {"readings": lines[-last - _AFTER : -_AFTER], "calls": count - 1, "seconds": spent_s}

    def _find(self) -> str:
        found = self.device.run(_PROGRAMS)
        lines = found.stdout.decode("utf-8", "replace").split()
        if found.status or not lines:
            raise RuntimeMissingError(
                f"{self.artifact}: {self.device.name} has no trtexec, TensorRT's own program",
                "install it there, from JetPack: sudo apt install libnvinfer-bin",
            )
        return str(lines[0])

    def _given(self, inputs: Path) -> str:
        """Bring every input there as raw values; return the list trtexec takes."""
        pairs = []
        with np.load(inputs, allow_pickle=False) as stored, tempfile.TemporaryDirectory() as folder:
            for index, name in enumerate(stored.files):
                raw = Path(folder, f"input-{index}.bin")
                raw.write_bytes(np.ascontiguousarray(stored[name]).tobytes())
                pairs.append(f"{shlex.quote(name)}:{shlex.quote(self.device.push(raw))}")
        return ",".join(pairs)

    def _times(self, timeout_s: float, samples: int, calls: int, warmup_ms: int = _WARMUP_MS) -> list[int]:
        """Return host latency in ns: copy in, compute, copy out; each the mean of ``calls`` calls in a row."""
        count = samples * calls
        options = f"{self._engine} --iterations={count} --duration=0 --warmUp={warmup_ms} --useSpinWait"
        _, trace = self._run(options, timeout_s, "exportTimes")
        return latencies_ns(trace, warmup_ms, count, calls)

    def _run(
        self, options: str, timeout_s: float, export: str = "", around: str = "{command}"
    ) -> tuple[str, list[dict[str, Any]]]:
        """Run trtexec; return what it says, and the JSON of ``export``. Raises StageError unless it passed."""
        written = shlex.quote(f"{self.folder}/{export}.json")
        wanted = f"--{export}={written}" if export else ""
        command = around.format(command=f"{self._program} {options} {wanted} 2>&1")
        done = self.device.run(command, timeout_s, once=True)
        said = done.stdout.decode("utf-8", "replace")
        if _PASSED not in said:
            lines = [line for line in said.splitlines() if "[E]" in line] or said.splitlines()
            raise StageError(f"{self.artifact}: TensorRT refuses it{last_words(lines[-_LAST_LINES:])}")
        content = json.loads(self.device.run(f"cat {written}").stdout) if export else []
        return said, content


def latencies_ns(trace: Sequence[dict[str, float]], warmup_ms: float, count: int, calls: int) -> list[int]:
    """Take the last ``count`` calls after the warm-up out of an exported trace, as means of ``calls``."""
    timed = [one["latencyMs"] for one in trace if one["startComputeMs"] >= warmup_ms][-count:]
    groups = [timed[start : start + calls] for start in range(0, len(timed) - calls + 1, calls)]
    return [max(1, round(sum(group) / calls * 1e6)) for group in groups]


def _output(item: dict[str, Any]) -> dict[str, Any]:
    """Read one exported output: ``dimensions`` is e.g. 1x10, ``values`` is flat."""
    values = np.asarray(item["values"], np.float32)
    shape = [int(size) for size in str(item["dimensions"]).split("x")]
    data = base64.b64encode(values.tobytes()).decode()
    return {"name": item["name"], "shape": shape, "dtype": "float32", "data": data}
