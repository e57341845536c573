"""Run one model on request, in a process of its own: locally, or copied to a device.

A request is one JSON object on a line of stdin: ``{"id": 1, "command": "group", ...arguments}``. Its reply is one
JSON object with that id on a line of stdout behind ``MARK``; ``error`` in it means that the request failed. The same
id once more is a caller whose connection broke: it gets the same reply, nothing runs again. A process that ends
without a reply has died: that is the caller's to notice. Commands are the public methods of ``Agent``.

It imports nothing of edgekit and keeps to Python 3.9; numpy comes with every runtime.
"""

from __future__ import annotations

import base64
import ctypes
import gc
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

MARK = "@edgekit "
QUIT = b"quit"
PARENT = "EDGEKIT_PARENT"  # environment: process id of a parent on the same machine
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # onnxruntime 1.31 would write a device ID and report to its maker


class Agent:
    """Holds the one model of this process."""

    def __init__(self) -> None:
        self._session: Any = None

    def load(self, path: str, runtime: str, threads: int, inputs: str | None = None, seed: int = 0) -> dict[str, Any]:
        """Load the model with the runtime module at ``runtime``, set its inputs and run it once.

        ``inputs`` is an .npz keyed by input name; without it the inputs are synthetic, from ``seed``.
        """
        module = _import_file(runtime)
        before = peak_memory_bytes()
        start = time.perf_counter_ns()
        session = module.open_model(path, threads)
        load_ns = time.perf_counter_ns() - start
        session.set_inputs(read_inputs(inputs, session.inputs) if inputs else synthetic_inputs(session.inputs, seed))
        start = time.perf_counter_ns()
        session.invoke()
        first_call_ns = time.perf_counter_ns() - start
        self._session = session
        gc.collect()
        gc.disable()  # a collection in the middle of a timed call would be counted as the model's time
        return {
            "runtime": session.runtime,
            "version": session.version,
            "inputs": session.inputs,
            "outputs": session.outputs,
            "load_ns": load_ns,
            "first_call_ns": first_call_ns,
            "before_load_bytes": before,
        }

    def warmup(self, calls: int, seconds: float) -> dict[str, Any]:
        """Run at least ``calls`` times and for at least ``seconds``; report the fastest call."""
        fastest, done, end = 0, 0, time.perf_counter() + seconds
        while done < calls or time.perf_counter() < end:
            start = time.perf_counter_ns()
            self._session.invoke()
            took = time.perf_counter_ns() - start
            fastest = min(fastest or took, took)
            done += 1
        return {"calls": done, "fastest_ns": fastest}

    def group(self, samples: int, calls_per_sample: int, lead_in: int, limit_s: float) -> dict[str, Any]:
        """Time ``samples`` samples, each the mean of ``calls_per_sample`` calls, after untimed calls.

        On a machine busier than in the warm-up, ``limit_s`` ends the group earlier, with one sample at least.
        """
        invoke, clock = self._session.invoke, time.perf_counter_ns
        for _ in range(lead_in):
            invoke()
        times: list[int] = []
        end = clock() + int(limit_s * 1e9)
        while len(times) < samples and (not times or clock() < end):
            start = clock()
            for _ in range(calls_per_sample):
                invoke()
            times.append((clock() - start) // calls_per_sample)
        return {"samples_ns": times}

    def run(self, tensors: list[dict[str, Any]]) -> dict[str, Any]:
        """Take inputs in the order of the model's, written like outputs, and return what they give."""
        self._session.set_inputs(
            [
                np.frombuffer(base64.b64decode(tensor["data"]), tensor["dtype"]).reshape(tensor["shape"])
                for tensor in tensors
            ]
        )
        return self.outputs()

    def outputs(self) -> dict[str, Any]:
        """Return the outputs for the fixed inputs, as base64 of their bytes in C order."""
        self._session.invoke()
        arrays = [np.ascontiguousarray(array) for array in self._session.outputs_now()]
        return {
            "outputs": [
                {
                    "name": self._session.outputs[index]["name"],
                    "shape": list(array.shape),
                    "dtype": array.dtype.name,
                    "data": base64.b64encode(array.tobytes()).decode(),
                }
                for index, array in enumerate(arrays)
            ]
        }

    def ops(self, script: str, path: str, threads: int, runs: int) -> dict[str, Any]:
        """Time each op with the profiler in ``script``, and count nodes by what executes them.

        Meant for a process that does nothing else.
        """
        found: dict[str, Any] = _import_file(script).ops(path, threads, runs)
        return found

    def energy(self, meter: list[str], seconds: float) -> dict[str, Any]:
        """Run for that long while the program ``meter`` prints a reading a line; return them with calls and time."""
        lines: list[str] = []
        with subprocess.Popen(meter, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines.append(process.stdout.readline())  # it reads now
            reader = Thread(target=lines.extend, args=(process.stdout,), daemon=True)
            start, calls = time.perf_counter(), 0
            reader.start()
            while time.perf_counter() - start < seconds:
                self._session.invoke()
                calls += 1
            spent = time.perf_counter() - start
            process.kill()
            reader.join()
        return {"readings": lines[1:], "calls": calls, "seconds": spent}

    def usage(self) -> dict[str, Any]:
        """Return a clock and the CPU seconds of the machine (None without /proc) and of this process."""
        return {"clock_s": time.monotonic(), "busy_s": busy_seconds(), "own_s": time.process_time()}

    def memory(self) -> dict[str, Any]:
        """Return the peak resident memory of this process so far."""
        return {"peak_bytes": peak_memory_bytes()}


def peak_memory_bytes() -> int:
    """Return VmHWM (proc(5)); 0 where there is no /proc. Not getrusage: that figure survives exec."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        return 0
    return 0


def busy_seconds() -> float | None:
    """Return the CPU time that all cores have spent working since boot, stolen time included (proc(5))."""
    try:
        with open("/proc/stat", encoding="ascii") as stat:
            ticks = [int(n) for n in stat.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _import_file(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("edgekit_runtime", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_inputs(path: str, wanted: list[dict[str, Any]]) -> list[Any]:
    """Read the inputs by name, or by position where no name matches and the count does."""
    with np.load(path, allow_pickle=False) as stored:
        given = {name: stored[name] for name in stored.files}
    names = [tensor["name"] for tensor in wanted]
    if not set(names) & set(given) and len(given) == len(names):
        given = dict(zip(names, given.values()))  # noqa: B905 - strict= is newer than Python 3.9
    missing = [name for name in names if name not in given]
    if missing:
        raise ValueError(f"no input named {', '.join(missing)} in {path}; it has {', '.join(given)}")
    return [_fit(given[tensor["name"]], tensor) for tensor in wanted]


def _fit(array: Any, tensor: dict[str, Any]) -> Any:
    """Check one input against what the model takes; only a change of width (float64 to float32) is made."""
    name, shape, dtype = tensor["name"], tensor["shape"], np.dtype(tensor["dtype"])
    fits = len(shape) == array.ndim and all(n in (-1, array.shape[i]) for i, n in enumerate(shape))
    if not fits:
        raise ValueError(f"input {name} takes shape {shape}, the sample has {list(array.shape)}")
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise ValueError(f"input {name} takes {dtype.name}, the sample has {array.dtype.name}")
    return np.ascontiguousarray(array, dtype)


def synthetic_inputs(wanted: list[dict[str, Any]], seed: int) -> list[Any]:
    """Make inputs: floats in [0, 1), integers 0 or 1 (always inside a vocabulary), dynamic sizes 1."""
    generator = np.random.default_rng(seed)
    arrays = []
    for tensor in wanted:
        shape, dtype = [1 if n < 0 else n for n in tensor["shape"]], np.dtype(tensor["dtype"])
        drawn = generator.random(shape) if dtype.kind == "f" else generator.integers(0, 2, shape)
        arrays.append(np.asarray(drawn, dtype))
    return arrays


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies; elsewhere the end of stdin ends it."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.environ.get(PARENT, str(os.getppid())) != str(os.getppid()):  # it died before the line above
        os._exit(1)


def _requests() -> Iterator[str]:
    """Yield the lines of stdin; its end, or ``QUIT``, ends this process at once, also amid a long command.

    Whoever would read the reply is gone then, and what still ran would slow the next measurement.
    """
    lines: SimpleQueue[str] = SimpleQueue()

    def read() -> None:
        with open(0, "rb", buffering=0, closefd=False) as stream:  # a buffered one is locked while Python ends
            for line in stream:
                if line.strip() == QUIT:
                    break
                lines.put(line.decode(errors="replace"))
        os._exit(0)

    Thread(target=read, daemon=True).start()
    while True:
        yield lines.get()


def serve() -> None:
    """Answer requests until ``QUIT`` or the end of stdin."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a runtime prints goes to stderr, not between the replies
    agent = Agent()
    answered, answer = None, ""
    for line in _requests():
        try:
            request = json.loads(line)
        except ValueError:
            continue  # cut off where the connection broke: it is sent again
        number = request.pop("id", None)
        if number is None or number != answered:
            answered, answer = number, ""  # the caller has the one before: it need not take memory
            answer = json.dumps({**_answer(agent, request), "id": number})
        replies.write(f"{MARK}{answer}\n")
        replies.flush()


def _answer(agent: Agent, request: dict[str, Any]) -> dict[str, Any]:
    command = request.pop("command")
    try:
        reply: dict[str, Any] = getattr(agent, command)(**request)
    except Exception as error:  # noqa: BLE001 - whatever a model does must reach the caller as a reply
        traceback.print_exc()
        return {"error": str(error) or repr(error), "kind": type(error).__name__}
    return reply


if __name__ == "__main__":
    die_with_parent()
    serve()
