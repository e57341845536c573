"""Time every op of an .onnx file with ONNX Runtime's profiler.

Like the agent that loads it, it imports nothing of edgekit. Inputs are zeros: dense kernels take the same
time for any values.
Format: https://onnxruntime.ai/docs/performance/tune-performance/profiling-tools.html
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np
import onnxruntime

_WARMUP = 3
_KERNEL = "_kernel_time"
_DTYPES = {"float": "float32", "double": "float64"}


def ops(path: str, threads: int, runs: int) -> dict[str, Any]:
    """Return the median time per inference of each node left after graph optimization, in run order, as ``ops``.

    ``nodes`` says how many of them each execution provider runs.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(folder, "ops")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed = {node.name: _zeros(node) for node in session.get_inputs()}
        for _ in range(_WARMUP + runs):
            session.run(None, feed)
        with open(session.end_profiling(), encoding="utf-8") as trace:
            events = json.load(trace)
    return {"ops": summarize(events, runs), "nodes": providers(events)}


def providers(events: list[dict[str, Any]]) -> dict[str, int]:
    """Count the nodes by execution provider."""
    timed = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(_KERNEL)]
    found = {event["name"]: str(event["args"].get("provider", "unknown")) for event in timed}
    return dict(Counter(found.values()))


def summarize(
    events: list[dict[str, Any]], runs: int, average: Callable[[list[int]], float] = median
) -> list[dict[str, Any]]:
    """Take the median over the last ``runs`` runs; the runs before them are warm-up."""
    times: dict[str, list[int]] = {}
    kinds: dict[str, str] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            name = event["name"][: -len(_KERNEL)]
            times.setdefault(name, []).append(int(event["dur"]))
            kinds[name] = event["args"]["op_name"]
    return [{"name": name, "kind": kinds[name], "ms": average(spent[-runs:]) / 1000} for name, spent in times.items()]


def _zeros(node: Any) -> Any:
    dtype = node.type[len("tensor(") : -1]
    shape = [dim if isinstance(dim, int) else 1 for dim in node.shape]
    return np.zeros(shape, _DTYPES.get(dtype, dtype))
