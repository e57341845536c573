"""Time every op of a .tflite file with LiteRT's profiler.

The Python API has no profiler; ``libLiteRt.so`` in the same wheel exports the C one, without a promise that
its ABI stays (checked with ai-edge-litert 2.3.0). So this runs in a process of its own, and whoever starts it
takes any failure for "no per-op times". Inputs are zeros: dense kernels take the same time for any values.
Structures: litert/c/litert_profiler_event.h and litert_model_types.h in github.com/google-ai-edge/LiteRT.
"""

from __future__ import annotations

import ctypes
import os
from importlib.util import find_spec
from statistics import median
from typing import Any

_WARMUP = 3
_CPU = 1  # kLiteRtHwAcceleratorCpu
_OPERATOR, _DELEGATE_OPERATOR = 2, 8  # tflite::Profiler::EventType
_TENSOR_TYPE_BYTES = 512  # LiteRtRankedTensorType takes about 80; the rest is room for it to grow
_SIZE = ctypes.c_size_t
_POINTER = ctypes.c_void_p


class _Event(ctypes.Structure):
    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", _SIZE * 6),
        ("metadata", ctypes.c_uint64 * 2),
        ("source", ctypes.c_int),
    )


class _Library:
    """libLiteRt.so: every call returns a status, checked here; objects live as long as the process."""

    def __init__(self) -> None:
        spec = find_spec("ai_edge_litert")
        if spec is None or spec.origin is None:
            raise ImportError("ai_edge_litert is not installed")
        self._library = ctypes.CDLL(os.path.join(os.path.dirname(spec.origin), "libLiteRt.so"))
        self._libc = ctypes.CDLL(None)
        self._libc.strdup.restype = _POINTER

    def call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name} failed with status {status}")

    def make(self, name: str, *arguments: Any) -> Any:
        """Call a function whose last parameter receives a handle; return the handle."""
        handle = _POINTER()
        self.call(name, *arguments, ctypes.byref(handle))
        return handle

    def option(self, identifier: bytes, toml: bytes) -> Any:
        """Make an option block; the library frees the text with the function given along."""
        text = _POINTER(self._libc.strdup(toml))
        return self.make("LiteRtCreateOpaqueOptions", identifier, text, ctypes.cast(self._libc.free, _POINTER))


def ops(path: str, threads: int, runs: int) -> dict[str, Any]:
    """Return the median time per inference of each XNNPACK node or plain kernel, in run order, as ``ops``.

    ``nodes`` says how many nodes of the file XNNPACK took, and how many TFLite's own kernels run.
    """
    library = _Library()
    environment = library.make("LiteRtCreateEnvironment", 0, None)
    model = library.make("LiteRtCreateModelFromFile", environment, os.fsencode(path))
    compiled = library.make("LiteRtCreateCompiledModel", environment, model, _options(library, threads))
    profiler = library.make("LiteRtCompiledModelGetProfiler", compiled)
    if not profiler:
        raise RuntimeError("this LiteRT build has no profiler")
    graph = library.make("LiteRtGetModelSubgraph", model, _SIZE(0))
    buffers = [_buffers(library, environment, compiled, graph, side) for side in ("Input", "Output")]
    arguments = [argument for side in buffers for argument in (_SIZE(len(side)), side)]

    def run(times: int) -> None:
        for _ in range(times):
            library.call("LiteRtRunCompiledModel", compiled, _SIZE(0), *arguments)

    run(_WARMUP)
    library.call("LiteRtResetProfiler", profiler)
    library.call("LiteRtStartProfiler", profiler)
    run(runs)
    library.call("LiteRtStopProfiler", profiler)
    events = _events(library, profiler)
    timed = summarize(events, runs)
    count = _SIZE()
    library.call("LiteRtGetNumSubgraphOps", graph, ctypes.byref(count))
    left = len(_timed(events, (_OPERATOR,))) // runs
    return {"ops": timed, "nodes": {"XNNPACK": count.value - left, "TFLite kernels": left}}


def summarize(events: list[tuple[str, int, int]], runs: int) -> list[dict[str, Any]]:
    """Take the median of (tag, event type, µs) over equal runs; raise ValueError where the runs differ.

    Left out are whole-run events and a delegate's own node, which contains the ops that are counted already.
    """
    timed = _timed(events, (_OPERATOR, _DELEGATE_OPERATOR))
    count = len(timed) // runs
    if count * runs != len(timed) or any(timed[i][0] != timed[i % count][0] for i in range(len(timed))):
        raise ValueError(f"{len(timed)} op events in {runs} runs: the runs do not have the same ops")
    return [
        {
            "name": f"{position}: {timed[position][0]}",
            "kind": timed[position][0].partition(" (")[0],
            "ms": median(spent for _, spent in timed[position::count]) / 1000,
        }
        for position in range(count)
    ]


def _timed(events: list[tuple[str, int, int]], kinds: tuple[int, ...]) -> list[tuple[str, int]]:
    """Return (tag, µs) of the events of these types, without a delegate's own node."""
    return [(tag, spent) for tag, kind, spent in events if kind in kinds and "Delegate" not in tag]


def _options(library: _Library, threads: int) -> Any:
    options = library.make("LiteRtCreateOptions")
    library.call("LiteRtSetOptionsHardwareAccelerators", options, _CPU)
    for identifier, toml in (
        (b"runtime_options_string", b"enable_profiling = true\n"),
        (b"xnnpack", b"num_threads = %d\n" % threads),
    ):
        library.call("LiteRtAddOpaqueOptions", options, library.option(identifier, toml))
    return options


def _buffers(library: _Library, environment: Any, compiled: Any, graph: Any, side: str) -> Any:
    """Make one zeroed buffer for each input or output of the main graph."""
    count = _SIZE()
    library.call(f"LiteRtGetNumSubgraph{side}s", graph, ctypes.byref(count))
    handles = []
    for index in range(count.value):
        tensor = library.make(f"LiteRtGetSubgraph{side}", graph, _SIZE(index))
        tensor_type = ctypes.create_string_buffer(_TENSOR_TYPE_BYTES)
        library.call("LiteRtGetRankedTensorType", tensor, tensor_type)
        needs = library.make(f"LiteRtGetCompiledModel{side}BufferRequirements", compiled, _SIZE(0), _SIZE(index))
        buffer = library.make("LiteRtCreateManagedTensorBufferFromRequirements", environment, tensor_type, needs)
        library.call("LiteRtClearTensorBuffer", buffer)
        handles.append(buffer)
    return (_POINTER * len(handles))(*handles)


def _events(library: _Library, profiler: Any) -> list[tuple[str, int, int]]:
    count = ctypes.c_int()
    library.call("LiteRtGetNumProfilerEvents", profiler, ctypes.byref(count))
    events = (_Event * count.value)()
    library.call("LiteRtGetProfilerEvents", profiler, count, events)
    return [(event.tag.decode(), event.kind, event.elapsed_us) for event in events]
