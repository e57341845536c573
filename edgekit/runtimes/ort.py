"""Run an .onnx file with ONNX Runtime on the CPU.

This file is also copied to devices and runs there alone: it imports nothing of edgekit and keeps to
Python 3.9.
"""

from __future__ import annotations

from typing import Any

import onnxruntime

RUNTIME = "onnxruntime"
_ERRORS_ONLY = 3
_DTYPES = {"float": "float32", "double": "float64", "string": "object"}


class RuntimeModelError(ValueError):
    """The runtime refuses the file, with the runtime's own words."""


def installed_version() -> str:
    """Return the version of the runtime in use."""
    return str(onnxruntime.__version__)


class Session:
    """One loaded model. ``inputs`` and ``outputs`` are in graph order, with the graph's names."""

    runtime = RUNTIME

    def __init__(self, session: Any) -> None:
        self.version = installed_version()
        self._session = session
        self.inputs = [_describe(node) for node in session.get_inputs()]
        self.outputs = [_describe(node) for node in session.get_outputs()]
        self._output_names = [node["name"] for node in self.outputs]
        self._feed: dict[str, Any] = {}
        self._results: list[Any] = []

    def set_inputs(self, arrays: list[Any]) -> None:
        """Keep the inputs, in the order of ``inputs``, for the next calls."""
        if len(arrays) != len(self.inputs):
            raise ValueError(f"{len(self.inputs)} inputs expected, {len(arrays)} given")
        self._feed = {node["name"]: arrays[index] for index, node in enumerate(self.inputs)}

    def invoke(self) -> None:
        """Run once on the inputs set before: the call that is timed."""
        self._results = self._session.run(self._output_names, self._feed)

    def outputs_now(self) -> list[Any]:
        """Return the outputs of the last call, in the order of ``outputs``; each call makes new arrays."""
        return list(self._results)

    def run(self, arrays: list[Any]) -> list[Any]:
        """Set the inputs, run once and return the outputs."""
        self.set_inputs(arrays)
        self.invoke()
        return self.outputs_now()


def session_options(threads: int) -> Any:
    """Return options for ``threads`` within an op, one op at a time, without warnings on stderr."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    return options


def open_model(path: str, threads: int = 1) -> Session:
    """Load an .onnx file on the CPU. Raises RuntimeModelError."""
    try:
        return Session(
            onnxruntime.InferenceSession(
                str(path), sess_options=session_options(threads), providers=["CPUExecutionProvider"]
            )
        )
    except Exception as error:  # onnxruntime's own errors share no base class
        raise RuntimeModelError(f"{RUNTIME} {installed_version()} cannot load {path}: {error}") from error


def _describe(node: Any) -> dict[str, Any]:
    """Return name, shape (-1 where dynamic) and numpy dtype name of one tensor."""
    dtype = str(node.type).removeprefix("tensor(").removesuffix(")")
    shape = [dim if isinstance(dim, int) else -1 for dim in node.shape]
    return {"name": node.name, "shape": shape, "dtype": _DTYPES.get(dtype, dtype)}
