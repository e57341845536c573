"""Damage model files in every way, and look at them: `make fuzz`, or with few mutations, a test.

Each mutation is made from a seed that the output names. What still reads well is converted, in a child process as in a
build, whose runtime may end it. One of edgekit's own errors, or a result, is what may come;
anything else, a second too many, or memory beyond the bound ends this process with a failure.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from project import FASHION, SAMPLES
from small_onnx import write
from small_pt2 import pt2
from small_saved_model import FLOAT, saved_model
from tiny_tflite import write_add_relu

from edgekit import arrays, inspection, source, target
from edgekit.convert import onnx_source, tflite_source
from edgekit.errors import EdgekitError, StageError

HANGS_AFTER_S = 30
MOST_MEMORY_BYTES = 2 << 30
Mutation = Callable[[bytes, np.random.Generator], bytes]


def flip(content: bytes, rng: np.random.Generator) -> bytes:
    damaged = bytearray(content)
    for at in rng.integers(0, len(content), rng.integers(1, 9)):
        damaged[at] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def overwrite(content: bytes, rng: np.random.Generator) -> bytes:
    """Write a number that means something to a parser: none, all, the largest, the smallest."""
    damaged = bytearray(content)
    at = int(rng.integers(0, max(1, len(content) - 8)))
    value = [b"\0" * 4, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\0\0\0\x80", rng.bytes(8)][rng.integers(5)]
    damaged[at : at + len(value)] = value
    return bytes(damaged)


def truncate(content: bytes, rng: np.random.Generator) -> bytes:
    return content[: int(rng.integers(0, len(content)))]


def splice(content: bytes, rng: np.random.Generator) -> bytes:
    """Cut a piece out, or put it in twice."""
    start, length = int(rng.integers(0, len(content))), int(rng.integers(1, 200))
    piece = content[start : start + length]
    return content[:start] + (piece * 2 if rng.random() < 0.5 else b"") + content[start + length :]


MUTATIONS: tuple[Mutation, ...] = (flip, overwrite, truncate, splice)


def anywhere(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage the head, where the structure is, as often as all of it."""
    head = min(len(content), 4096) if rng.random() < 0.5 else len(content)
    return MUTATIONS[rng.integers(len(MUTATIONS))](content[:head], rng) + content[head:]


def inside_zip(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage one member of a `.keras` file and pack it again, or its checksum would end every attempt."""
    if rng.random() < 0.2:
        return anywhere(content, rng)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        names = old.namelist()
        chosen = names[rng.integers(len(names))]
        for name in names:
            new.writestr(name, anywhere(old.read(name), rng) if name == chosen else old.read(name))
    return packed.getvalue()


def as_hdf5(source: Path, path: Path) -> Path:
    """Write a `.keras` file's model as an `.h5` file, for which Keras is not needed."""
    with zipfile.ZipFile(source) as archive, h5py.File(path, "w") as file:
        file.attrs["model_config"] = archive.read("config.json").decode()
        with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as weights:
            weights.copy(weights["layers"], file, "model_weights")
    return path


def seeds(folder: Path) -> dict[str, tuple[list[Path], Mutation]]:
    onnx_files = [
        write(folder / "a.onnx", {"y": (1, 10)}, last="Softmax"),
        write(folder / "b.onnx", {"boxes": (1, 50, 4), "scores": (1, 50, 21)}, image=("n", 3, 64, 64)),
        write(folder / "c.onnx", {"y": (1, 14, 84)}, opset=13),
    ]
    tflite_files = [
        write_add_relu(folder / "a.tflite"),
        write_add_relu(folder / "b.tflite", signature=False),
    ]
    keras_files = [FASHION / "model.keras", SAMPLES / "text_encoder" / "model.keras"]
    return {
        "onnx": (onnx_files, anywhere),
        "tflite": (tflite_files, anywhere),
        "keras": (keras_files, inside_zip),
        "h5": ([as_hdf5(file, folder / f"{file.parent.name}.h5") for file in keras_files], anywhere),
        "pt2": ([pt2(folder / "a.pt2")], inside_zip),
        "pb": ([saved_model(folder / "sm", {"run": {"x": (FLOAT, [-1, 8])}}) / "saved_model.pb"], anywhere),
    }


CONVERTERS: dict[str, Callable[..., Any]] = {"onnx": onnx_source.run, "tflite": tflite_source.run}
DIED, BUG, REFUSED, CONVERTED = "its process died", "a bug", "refused", "converted"


def converted(path: Path, format: str, scratch: Path) -> tuple[str, int]:
    """Convert a file that reads well, in a child as a build does; return what came of it, and its peak memory."""
    data = {item.name: np.ones((2, *(s or 1 for s in (item.shape or ())[1:])), np.float32) for item in _fed(path)}
    log = scratch / "log.txt"
    child = os.fork()
    if child == 0:
        with log.open("wb") as stream:
            os.dup2(stream.fileno(), 1)
            os.dup2(stream.fileno(), 2)
        faulthandler.disable()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os._exit(_convert(path, format, data, Path(tempfile.mkdtemp(dir=scratch))))
    _, status, used = os.wait4(child, 0)
    if os.WIFSIGNALED(status):
        return (HUNG if os.WTERMSIG(status) == signal.SIGALRM else DIED), used.ru_maxrss * 1024
    outcome = {0: CONVERTED, 1: REFUSED}.get(os.WEXITSTATUS(status), BUG)
    if outcome == BUG:
        print(log.read_text(errors="replace")[-3000:], file=sys.stderr)
    return outcome, used.ru_maxrss * 1024


HUNG = "it hangs"


def _fed(path: Path) -> tuple[Any, ...]:
    inputs = source.inspect(path).inputs
    size = sum(int(np.prod([float(s or 1) for s in (item.shape or ())[1:]])) for item in inputs)
    return inputs if size < 1 << 24 else ()


def _convert(path: Path, format: str, data: dict[str, Any], out: Path) -> int:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(HANGS_AFTER_S)
    try:
        preprocess = {"size": None, "color": "rgb", "mean": [0.0], "scale": [1.0]}
        arrays.save(out / "data.npz", data)
        dataset = {"kind": "npz", "path": out / "data.npz", "preprocess": preprocess}
        CONVERTERS[format](out=out, progress=lambda *_: None, model=path, dataset=dataset, samples=1)
    except EdgekitError:
        return 1
    except BaseException:  # noqa: BLE001 - what a build reports as a child that ended without a result
        traceback.print_exc()
        return 2
    return 0


def attempt(path: Path, boards: list[Any]) -> str:
    try:
        if path.suffix in (".pt2", ".pb"):  # the rest of these takes torch or TensorFlow
            source.inspect(path.parent if path.suffix == ".pb" else path)
        else:
            inspection.look(path, boards, lambda done, text: None)
    except EdgekitError as error:
        return type(error).__name__ if error.message else "an error without a word"
    return "read"


def hung(*_: object) -> None:
    raise SystemExit(f"it hangs: more than {HANGS_AFTER_S} s")


def no_child(*_: object) -> dict[str, Any]:
    """Stand in for TensorFlow in a process of its own, which takes seconds each time and cannot harm this one."""
    raise StageError("left to a child process")


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--mutations", type=int, default=2000, help="of each format")
    arguments.add_argument("--converted", type=int, default=500, help="of each format that needs no TensorFlow")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--file", type=Path, action="append", default=[], help="damage this one, too")
    wanted = arguments.parse_args()
    faulthandler.enable()
    signal.signal(signal.SIGALRM, hung)
    vars(inspection)["_in_child"] = no_child
    most = 0
    boards = [target.load(name) for name in ("jetson-nano", "browser", "x86-64")]
    with tempfile.TemporaryDirectory() as scratch:
        for format, (files, mutate) in seeds(Path(scratch)).items():
            files = [*files, *(file for file in wanted.file if file.suffix == f".{format}")]
            contents, counts, began = [file.read_bytes() for file in files], Counter[str](), time.monotonic()
            path = files[0] if format == "pb" else Path(scratch, f"mutant.{format}")
            ends = Counter[str]()
            for number in range(wanted.mutations):
                seed = wanted.seed + number
                rng = np.random.default_rng(seed)
                path.write_bytes(mutate(contents[number % len(contents)], rng))
                signal.alarm(HANGS_AFTER_S)
                try:
                    came = attempt(path, boards)
                    counts[came] += 1
                    if came == "read" and format in CONVERTERS and ends.total() < wanted.converted:
                        end, used = converted(path, format, Path(scratch))
                        ends[end] += 1
                        most = max(most, used)
                        if end in (BUG, HUNG):
                            raise SystemExit(f"converting ends in {end}")
                except BaseException:
                    print(f"{format}: seed {seed} of {files[number % len(files)].name}", file=sys.stderr, flush=True)
                    raise
                signal.alarm(0)
            took = time.monotonic() - began
            more = f"; going on, {dict(ends)}" if ends else ""
            print(f"{format}: {wanted.mutations} mutations in {took:.0f} s, {dict(counts)}{more}", flush=True)
    peak = max(most, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    print(f"peak memory {peak / 1e6:.0f} MB")
    return int(peak > MOST_MEMORY_BYTES)


if __name__ == "__main__":
    sys.exit(main())
