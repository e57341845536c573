"""Damage model files in every way, and look at them: `make fuzz`, or with few mutations, a test.

Each mutation is made from a seed that the output names. One of edgekit's own errors, or a result, is what may come;
anything else, a second too many, or memory beyond the bound ends this process with a failure.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import resource
import signal
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from project import FASHION, SAMPLES
from small_onnx import write
from tiny_tflite import write_add_relu

from edgekit import inspection, target
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
    }


def attempt(path: Path, boards: list[Any]) -> str:
    try:
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
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--file", type=Path, action="append", default=[], help="damage this one, too")
    wanted = arguments.parse_args()
    faulthandler.enable()
    signal.signal(signal.SIGALRM, hung)
    vars(inspection)["_in_child"] = no_child
    boards = [target.load(name) for name in ("jetson-nano", "browser", "x86-64")]
    with tempfile.TemporaryDirectory() as scratch:
        for format, (files, mutate) in seeds(Path(scratch)).items():
            files = [*files, *(file for file in wanted.file if file.suffix == f".{format}")]
            contents, counts, began = [file.read_bytes() for file in files], Counter[str](), time.monotonic()
            path = Path(scratch, f"mutant.{format}")
            for number in range(wanted.mutations):
                seed = wanted.seed + number
                rng = np.random.default_rng(seed)
                path.write_bytes(mutate(contents[number % len(contents)], rng))
                signal.alarm(HANGS_AFTER_S)
                try:
                    counts[attempt(path, boards)] += 1
                except BaseException:
                    print(f"{format}: seed {seed} of {files[number % len(files)].name}", file=sys.stderr, flush=True)
                    raise
                signal.alarm(0)
            took = time.monotonic() - began
            print(f"{format}: {wanted.mutations} mutations in {took:.0f} s, {dict(counts)}", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"peak memory {peak / 1e6:.0f} MB")
    return int(peak > MOST_MEMORY_BYTES)


if __name__ == "__main__":
    sys.exit(main())
