"""Run one step in a child process: TensorFlow leaks, peaks at gigabytes and can abort natively.

The child is ``python -m edgekit.worker REQUEST.json PARENT``. It writes its outputs and ``result.json`` beside the
request, sends progress as JSON lines on stdout, and everything else that libraries print goes to ``log.txt``.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from edgekit.errors import EdgekitError, StageError, error_named
from edgekit.lifeline import die_with_parent
from edgekit.progress import Progress

REQUEST, RESULT, ERROR, LOG = "request.json", "result.json", "error.json", "log.txt"
_TAIL_LINES = 12
_FULL_BYTES = 1 << 20  # libraries end in their own ways on a full disk; what is left free tells it apart
FREE_SPACE = "Free some disk space and run the same command again, or choose another folder: --output DIR"


class Children:
    """The living children of one build, which runs several; ``end`` kills them and lets no other start."""

    def __init__(self) -> None:
        self.ended = False
        self._living: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()

    @contextmanager
    def started(
        self, command: list[str], log: IO[bytes], environment: dict[str, str]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start a child; it is dead when the block is left. Raises StageError once ``end`` was called."""
        with self._lock:
            if self.ended:
                raise StageError("The build was ended.")
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **_ENVIRONMENT, **environment},
                start_new_session=True,  # Ctrl-C reaches the parent alone, which then ends the child in order
            )
            self._living.add(child)
        try:
            yield child
        finally:
            with self._lock:
                self._living.discard(child)
            if child.poll() is None:
                _kill(child)
            child.wait()
            if child.stdout:
                child.stdout.close()

    def end(self) -> None:
        with self._lock:
            self.ended = True
            for child in self._living:
                _kill(child)


def run(
    function: str, arguments: dict[str, Any], out: Path, progress: Progress, *, label: str,
    children: Children | None = None, own_cpu: bool = False, custom: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Call ``module:function(out=, progress=, **arguments)`` in a child and return its JSON-able result.

    Paths in ``arguments`` stay paths. ``own_cpu``: the result may differ on another CPU, so oneDNN may compute
    it: training is 1.3 times as fast. ``custom``: the user's file with the classes of a Keras model's own layers,
    which the child runs first. Raises the child's own EdgekitError, or StageError if it died.
    """
    request = {"function": function, "arguments": _encode(arguments)} | ({"custom": str(custom)} if custom else {})
    (out / REQUEST).write_text(json.dumps(request, sort_keys=True))
    with (out / LOG).open("wb") as log:
        command = [sys.executable, "-m", "edgekit.worker", str(out / REQUEST), str(os.getpid())]
        with (children or Children()).started(command, log, _OWN_CPU if own_cpu else {}) as child:
            _relay(child, progress)
            code = child.wait()
    if code == 0 and (out / RESULT).is_file():
        result: dict[str, Any] = json.loads((out / RESULT).read_text())
        return result
    raise _failure(code, out, label)


_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # oneDNN chooses its kernels, and the order of their sums, by the CPU
    "KERAS_BACKEND": "tensorflow",
    "PYTHONHASHSEED": "0",
    "CUDA_VISIBLE_DEVICES": "-1",
}


_OWN_CPU = {"TF_ENABLE_ONEDNN_OPTS": "1"}


def _relay(child: subprocess.Popen[bytes], progress: Progress) -> None:
    assert child.stdout is not None
    for line in child.stdout:
        try:
            message = json.loads(line)
            progress(float(message["done"]), str(message["text"]))
        except (ValueError, KeyError, TypeError):
            continue  # a library's own print; not ours to show


def _kill(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # it ended by itself
        os.killpg(child.pid, signal.SIGKILL)


def _failure(code: int, out: Path, label: str) -> EdgekitError:
    if (out / ERROR).is_file():
        found = json.loads((out / ERROR).read_text())
        return error_named(found["error"])(found["message"], found["hint"])
    tail = _tail(out / LOG)
    if shutil.disk_usage(out).free < _FULL_BYTES:
        return StageError(f"{label}: the disk that holds {out} is full.\n{tail}".rstrip(), FREE_SPACE)
    if code < 0:
        name = signal.Signals(-code).name
        return StageError(f"{label}: its process died with {name}.\n{tail}".rstrip(), _DEATHS.get(name, ""))
    return StageError(f"{label}: its process ended with code {code} and no result.\n{tail}".rstrip())


_DEATHS = {
    "SIGKILL": "It ran out of memory, or was killed from outside.",
    "SIGABRT": "A check inside a library ended it. Where a model was being run, its runtime refuses that file: "
    "edgekit diagnose FILE says which layer to look at.",
}


def _tail(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:])


def _encode(value: Any) -> Any:
    if isinstance(value, Path):
        return {"$path": str(value)}
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return value


def _decode(value: Any) -> Any:
    if isinstance(value, dict):
        if set(value) == {"$path"}:
            return Path(value["$path"])
        return {key: _decode(item) for key, item in value.items()}
    return [_decode(item) for item in value] if isinstance(value, list) else value


def _main(request: Path, parent: int) -> int:
    die_with_parent(parent)
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print, also from C++, goes to the log

    def progress(done: float, text: str) -> None:
        channel.write(json.dumps({"done": round(done, 4), "text": text}) + "\n")

    wanted = json.loads(request.read_text())
    out = request.parent
    try:
        if "custom" in wanted:
            importlib.import_module("edgekit.keras_io").use_custom(Path(wanted["custom"]))
        module, _, name = wanted["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        result = function(out=out, progress=progress, **_decode(wanted["arguments"]))
        (out / RESULT).write_text(json.dumps(result, sort_keys=True, indent=1, allow_nan=False))
    except EdgekitError as error:
        _report(out, type(error).__name__, error.message, error.hint)
        return 1
    except OSError as error:
        traceback.print_exc()
        _report(
            out,
            "StageError",
            f"{type(error).__name__}: {error}",
            "Check the disk's free space and permissions.",
        )
        return 1
    except MemoryError:
        _report(out, "StageError", "Out of memory.", "Close other programs, or use a machine with more memory.")
        return 1
    except ImportError as error:
        traceback.print_exc()
        _report(out, "DependencyError", f"A library is missing or broken: {error}", "Reinstall: pip install -e .")
        return 1
    return 0


def _report(out: Path, error: str, message: str, hint: str) -> None:
    (out / ERROR).write_text(json.dumps({"error": error, "message": message, "hint": hint}))


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), int(sys.argv[2])))
