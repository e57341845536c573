"""Run a .tflite file with LiteRT, or with its predecessor tflite_runtime where only that exists (32-bit ARM).

This file is also copied to devices and runs there alone: it imports nothing of edgekit and keeps to
Python 3.9.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter

    RUNTIME, _DISTRIBUTIONS = "ai-edge-litert", ("ai-edge-litert", "ai-edge-litert-nightly")
except ImportError:
    from tflite_runtime.interpreter import Interpreter

    RUNTIME, _DISTRIBUTIONS = "tflite-runtime", ("tflite-runtime", "tflite-runtime-nightly")

_SIGNATURE = "serving_default"


class RuntimeModelError(ValueError):
    """The runtime refuses the file, with the runtime's own words."""


def installed_version() -> str:
    """Return the version of the runtime in use, or "unknown" where it came without package metadata."""
    for distribution in _DISTRIBUTIONS:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "unknown"


class Session:
    """One loaded model. ``inputs`` and ``outputs`` are in graph order, named as in the signature."""

    runtime = RUNTIME

    def __init__(self, interpreter: Any) -> None:
        self.version = installed_version()
        self._interpreter = interpreter
        inputs, outputs = _signature_names(interpreter)
        self._input_details = _named(interpreter.get_input_details(), inputs)
        self._output_details = _named(interpreter.get_output_details(), outputs)
        self.inputs = [_describe(name, detail) for name, detail in self._input_details]
        self.outputs = [_describe(name, detail) for name, detail in self._output_details]
        self.invoke = interpreter.invoke  # the bare call, for timing: no wrapper around it

    def set_inputs(self, arrays: list[Any]) -> None:
        """Copy the inputs in, in the order of ``inputs``."""
        if len(arrays) != len(self._input_details):
            raise ValueError(f"{len(self._input_details)} inputs expected, {len(arrays)} given")
        for index, (_, detail) in enumerate(self._input_details):
            self._interpreter.set_tensor(detail["index"], arrays[index])

    def outputs_now(self) -> list[Any]:
        """Return copies of the outputs of the last call, in the order of ``outputs``."""
        return [self._interpreter.get_tensor(detail["index"]) for _, detail in self._output_details]

    def run(self, arrays: list[Any]) -> list[Any]:
        """Set the inputs, run once and return copies of the outputs."""
        self.set_inputs(arrays)
        self.invoke()
        return self.outputs_now()


def open_model(path: str, threads: int = 1) -> Session:
    """Load a .tflite file on the CPU with the default XNNPACK delegate.

    Raises RuntimeModelError. A corrupt file can also end the process: open untrusted files in a child.
    """
    try:
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
        interpreter.allocate_tensors()
        return Session(interpreter)
    except (ValueError, RuntimeError, OSError) as error:
        raise RuntimeModelError(f"{RUNTIME} {installed_version()} cannot load {path}: {error}") from error


def _signature_names(interpreter: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Return name -> tensor index of the default (or the only) signature; empty where there is none."""
    signatures = interpreter.get_signature_list()
    if _SIGNATURE not in signatures and len(signatures) != 1:
        return {}, {}
    key = _SIGNATURE if _SIGNATURE in signatures else next(iter(signatures))
    runner = interpreter.get_signature_runner(key)
    return (
        {name: int(detail["index"]) for name, detail in runner.get_input_details().items()},
        {name: int(detail["index"]) for name, detail in runner.get_output_details().items()},
    )


def _named(details: list[dict[str, Any]], names: dict[str, int]) -> list[tuple[str, dict[str, Any]]]:
    """Put signature names on tensors: one may carry several; one that has none keeps its own name."""
    named: list[tuple[str, dict[str, Any]]] = []
    for detail in {int(d["index"]): d for d in details}.values():
        here = [name for name, index in names.items() if index == int(detail["index"])]
        named += [(name, detail) for name in here or [str(detail["name"])]]
    return named


def _describe(name: str, detail: dict[str, Any]) -> dict[str, Any]:
    """Return name, shape (-1 where dynamic) and numpy dtype name of one tensor."""
    shape = detail["shape_signature"] if len(detail.get("shape_signature", ())) else detail["shape"]
    return {"name": name, "shape": [int(n) for n in shape], "dtype": np.dtype(detail["dtype"]).name}
