"""A phone without Python: TFLite's own ``benchmark_model``, which the user names, times the file there.

It feeds random inputs and shows no outputs, so nothing is compared; each sample is a process of its own, timed
after warm-up calls by the program itself.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from edgekit.artifact import digest
from edgekit.devices.connection import crashed, last_words
from edgekit.devices.program_session import Answer, ProgramSession, Shell
from edgekit.errors import StageError, UnsupportedError
from edgekit.runtimes.benchmark_model import BenchmarkRun, delegated, parse

RUNTIME = "benchmark_model"
ACCELERATORS = {"gpu": "GPU", "nnapi": "NNAPI"}
_SHELL_SIGNAL = 128
_LAST_LINES = 8


class BenchmarkSession(ProgramSession):
    """One .tflite file, run by the program at ``binary``, which must be built for the device's processor."""

    def __init__(self, device: Shell, artifact: str, binary: Path, accelerator: str = "") -> None:
        answers: dict[str, Answer] = {
            "load": self._load, "outputs": self._outputs, "warmup": self._warmup, "group": self._group,
            "ops": self._ops,
        }  # fmt: skip
        super().__init__(device, artifact, answers)
        self.binary = binary
        self.accelerator = accelerator
        self._said = ""
        self._command = ""
        self._loaded: BenchmarkRun | None = None

    def _load(self, timeout_s: float, path: Path, format: str, threads: int, **_unused: Any) -> dict[str, Any]:
        if format != "tflite":
            raise UnsupportedError(
                f"{self.artifact}: benchmark_model runs .tflite files, not .{format}", "profile the .tflite file there"
            )
        binary, graph = self.device.push(self.binary), self.device.push(path)
        self.device.run(f"chmod 755 {shlex.quote(binary)}")
        files = f"{shlex.quote(binary)} --graph={shlex.quote(graph)}"
        self._command = f"{files} --num_threads={threads} --min_secs=0 --warmup_min_secs=0"
        if self.accelerator:
            self._command += f" --use_{self.accelerator}=true"
        (self._loaded,) = self._run(timeout_s, times=1, calls=1, warmup=1, limit_s=timeout_s)
        return {
            "runtime": RUNTIME,
            "version": f"sha256 {digest(self.binary)[:12]}",
            "inputs": [],
            "outputs": [],
            "load_ns": int(self._loaded.init_us * 1000),
            "first_call_ns": int(self._loaded.first_us * 1000),
            "before_load_bytes": 0,
            **executors(self._said, self.accelerator),
        }

    def _outputs(self, timeout_s: float) -> dict[str, Any]:
        return {"outputs": None}

    def _warmup(self, timeout_s: float, calls: int, seconds: float) -> dict[str, Any]:
        (run,) = self._run(timeout_s, times=1, calls=max(calls, 2), warmup=1, limit_s=timeout_s)
        return {"calls": run.count, "fastest_ns": int(run.fastest_us * 1000)}

    def _group(
        self, timeout_s: float, samples: int, calls_per_sample: int, lead_in: int, limit_s: float
    ) -> dict[str, Any]:
        warmup = max(lead_in, 2)  # each sample starts cold
        runs = self._run(timeout_s, times=samples, calls=calls_per_sample, warmup=warmup, limit_s=limit_s)
        return {"samples_ns": [int(run.mean_us * 1000) for run in runs]}

    def _ops(self, timeout_s: float, **_unused: Any) -> dict[str, Any]:
        raise StageError(f"{self.artifact}: benchmark_model was not asked for per-op times")

    def _run(self, timeout_s: float, *, times: int, calls: int, warmup: int, limit_s: float) -> list[BenchmarkRun]:
        """Start the program ``times`` times, or until the limit; each makes ``calls`` timed calls."""
        one = f"{self._command} --num_runs={calls} --warmup_runs={warmup} 2>&1"
        script = (
            f"e=$(($(date +%s) + {max(1, round(limit_s))})); n=0; "
            f"while [ $n -lt {times} ]; do {one} || exit $?; n=$((n + 1)); [ $(date +%s) -lt $e ] || break; done"
        )
        done = self.device.run(script, timeout_s + limit_s, once=True)
        self._said = said = done.stdout.decode("utf-8", "replace")
        runs = parse(said)
        lines = [*said.splitlines(), *done.stderr][-_LAST_LINES:]
        if done.status > _SHELL_SIGNAL:
            raise crashed(self.artifact, "benchmark_model", self.device.name, _SHELL_SIGNAL - done.status, lines)
        if done.status or not runs:
            raise StageError(
                f"{self.artifact}: benchmark_model ended with exit code {done.status} and no times{last_words(lines)}",
                "is it built for this device's processor, and new enough for this file?",
            )
        return runs


def executors(said: str, accelerator: str) -> dict[str, Any]:
    """Return ``nodes`` by what executes them, and whether part of a network meant for an accelerator fell back."""
    taken, total = delegated(said) or (0, 0)
    name = ACCELERATORS.get(accelerator, "XNNPACK")
    nodes = {name: taken, "TFLite kernels" if not accelerator else "CPU": total - taken} if total else {}
    return {"nodes": nodes, "fallback": bool(accelerator) and (not total or taken < total)}
