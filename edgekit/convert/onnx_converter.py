"""Run the converter that writes TFLite from ONNX: onnx2tf, which needs no TensorFlow for it.

Its pins contradict edgekit's (onnx, numpy, LiteRT) and it names Python 3.12 as the oldest, though it runs with
edgekit's versions from Python 3.11 on: hence no extra of edgekit can name it, and pip has to be told to look away.
Source: https://github.com/PINTO0309/onnx2tf
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import DependencyError, StageError, UnsupportedError

NEEDED = {"onnx2tf": "2.6.9", "sng4onnx": "2.0.1", "psutil": "7.2.2", "tqdm": "4.67.1"}
EXACT = ("onnx2tf", "sng4onnx")  # of the others every version does
OPTIONS = ("--no-deps", "--ignore-requires-python", *(f"{name}=={version}" for name, version in NEEDED.items()))
COMMAND = " ".join(("pip install", *OPTIONS))
LONGEST_S = 900.0  # a network of 100 MB takes seconds
_TAIL_LINES = 6
_REFUSED = re.compile(r"op=(?P<kind>\S+) node=(?P<node>\S*) reason_code=\S* message=(?P<why>.*)")
_ERROR = re.compile(r"^(\w+\.)*\w*(Error|Exception): ")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Converted:
    """A float32 .tflite file; ``custom``: the ONNX ops that became custom ops, as "Kind at 'name'".

    ``correspondence``: the TFLite tensor that holds each ONNX tensor, where there is one.
    """

    path: Path
    custom: tuple[str, ...]
    correspondence: dict[str, str]


def missing() -> tuple[str, ...]:
    """Return what of the converter is not installed, or of another version than the tested one."""
    return tuple(name for name, wanted in NEEDED.items() if not _fits(name, wanted))


def require() -> None:
    """Raise DependencyError with the command that installs the converter, unless it is there."""
    if absent := missing():
        raise DependencyError(
            f"TFLite from an ONNX model needs a converter that is not installed: {', '.join(absent)}.",
            f"{COMMAND}    or choose targets that take ONNX: edgekit targets",
        )


def convert(model: Path, kept: Sequence[str], folder: Path, longest_s: float = LONGEST_S) -> Converted:
    """Convert a copy of ``model`` in a child process, and return the file it wrote to ``folder``.

    Names of inputs and outputs have to be plain: the converter cuts others short. Images become NHWC, but for the
    inputs in ``kept``; outputs come in the layout it likes. Raises DependencyError where the converter is missing,
    UnsupportedError where it refuses an op or takes longer than ``longest_s`` seconds, StageError where it dies.
    """
    require()
    folder = folder.absolute()  # the converter works in it
    folder.mkdir(parents=True, exist_ok=True)
    copy, request, log = folder / "source.onnx", folder / "convert.json", folder / "convert.txt"
    shutil.copyfile(model, copy)  # the converter rewrites its input
    request.write_text(json.dumps({"model": str(copy), "out": str(folder), "kept": list(kept)}))
    command = [sys.executable, "-m", "edgekit.convert.onnx_converter_child", str(request), str(os.getpid())]
    with log.open("wb") as stream:
        try:
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, timeout=longest_s,
                env={**os.environ, "TQDM_DISABLE": "1"},
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise UnsupportedError(
                f"The converter did not finish {model.name} within {longest_s:g} s.",
                "Give the Keras model or a SavedModel, or choose targets that take ONNX.",
            ) from error
    path = folder / f"{copy.stem}_float32.tflite"
    if code or not path.is_file():
        raise _failure(code, _COLOUR.sub("", log.read_text(errors="replace")))
    return Converted(path, *_reports(folder, copy.stem))


def _reports(folder: Path, stem: str) -> tuple[tuple[str, ...], dict[str, str]]:
    coverage = json.loads((folder / f"{stem}_op_coverage_report.json").read_text())
    custom = tuple(f"{item['onnx_op']} at {item['node_name']!r}" for item in coverage["custom_lowered_nodes"])
    found = json.loads((folder / f"{stem}_tensor_correspondence_report.json").read_text())
    # of several ONNX tensors that one holds (convolution, batch norm, activation), it holds the last
    held = {
        record["resolved_tflite_tensor_name"]: record["onnx_output_name"]
        for record in found["records"]
        if record["exists_in_final_model"]
    }
    return custom, {theirs: here for here, theirs in held.items()}


def _failure(code: int, log: str) -> UnsupportedError | StageError:
    refused = _REFUSED.search(log)
    if refused:
        return UnsupportedError(
            f"TFLite has no form of {refused['kind']} at {refused['node']!r}: {refused['why'].strip()}",
            "Replace this operation in the model, or choose targets that take ONNX.",
        )
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if _ERROR.match(line)), "")
    tail = "" if said else "\n".join(f"  {line}" for line in lines[-_TAIL_LINES:])
    how = f"died with signal {-code}" if code < 0 else "gave up"
    return StageError(
        f"The ONNX to TFLite converter {how}{f': {said}' if said else '.'}\n{tail}".rstrip(),
        "Give the Keras model or a SavedModel, or choose targets that take ONNX.",
    )


def _fits(name: str, wanted: str) -> bool:
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return name not in EXACT or found == wanted
