"""What executes an artifact: one module per runtime, named here and imported only when used."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from edgekit.errors import DependencyError, StageError, UnsupportedError

RUNTIMES: dict[str, str] = {
    "tflite": "edgekit.runtimes.litert",
    "onnx": "edgekit.runtimes.ort",
}
AGENT = Path(__file__).with_name("agent.py")
FACTS = Path(__file__).with_name("facts.py")


class Session(Protocol):
    """A loaded model. A tensor is a dict: ``name``, ``shape`` (-1 where dynamic), numpy ``dtype`` name."""

    runtime: str
    version: str
    inputs: list[dict[str, Any]]
    outputs: list[dict[str, Any]]

    def set_inputs(self, arrays: list[Any]) -> None: ...

    def invoke(self) -> None: ...

    def outputs_now(self) -> list[Any]: ...

    def run(self, arrays: list[Any]) -> list[Any]: ...


def open_model(path: Path, format: str, threads: int = 1) -> Session:
    """Load an artifact in its runtime, in this process.

    Raises UnsupportedError for a format without a runtime, DependencyError without the library,
    StageError for a file that the runtime refuses.
    """
    name = _module_name(format)
    try:
        module = import_module(name)
    except ImportError as error:
        raise DependencyError(
            f"the runtime for .{format} files cannot be imported: {error}",
            "install edgekit again with its pinned dependencies",
        ) from error
    try:
        session: Session = module.open_model(str(path), threads)
    except module.RuntimeModelError as error:
        raise StageError(str(error)) from error
    return session


def runtime_file(format: str) -> Path:
    """Return the runtime's module as a file: what the agent loads."""
    return AGENT.with_name(f"{_module_name(format).rpartition('.')[2]}.py")


def ops_file(format: str) -> Path:
    """Return the script that times the ops of a model of this format."""
    runtime = runtime_file(format)
    return runtime.with_name(f"{runtime.stem}_ops.py")


def files(format: str) -> list[Path]:
    """Return all that a device needs to run this format: agent, runtime module, per-op profiler."""
    return [AGENT, runtime_file(format), ops_file(format)]


def _module_name(format: str) -> str:
    if format not in RUNTIMES:
        raise UnsupportedError(
            f"no runtime executes .{format} files", f"formats that can be run: {', '.join(RUNTIMES)}"
        )
    return RUNTIMES[format]
