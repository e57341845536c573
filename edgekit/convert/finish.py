"""The last part of convert, without TensorFlow: apply a plan, embed metadata, check that it runs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekit import arrays
from edgekit.artifact import Artifact, digest
from edgekit.convert import onnx_quantized, package, tflite_quantized, tflite_sparse
from edgekit.convert.parity import compare
from edgekit.errors import StageError, UnsupportedError
from edgekit.progress import Progress
from edgekit.quantize.plan import Plan
from edgekit.runtimes import open_model

Arrays = dict[str, npt.NDArray[Any]]

MANIFEST = "model.json"
_ANY_ERROR = float("inf")  # quantization error is judged by the task's metric, not here
_EMITTERS: dict[str, Callable[[bytes, Plan], bytes]] = {
    "tflite": tflite_quantized.emit,
    "onnx": onnx_quantized.emit,
}


def run(
    *, out: Path, progress: Progress, model: Path, format: str, precision: str, plan: Path | None,
    reference: Path, inputs: Path, metadata: dict[str, Any], layouts: Path | None = None, sparse: bool = False,
    gz: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Write ``model.<format>`` as a target gets it, with ``model.json`` beside it.

    ``sparse``: store a .tflite's weights without their zeros, where that is smaller and LiteRT then computes
    the same bits. ``gz``: tell how large the file is compressed. ``layouts``: of inputs that the source takes
    otherwise, as JSON, [there, here] by name; it goes into the file too. Raises UnsupportedError when the file does not
    give the model's outputs in its runtime.
    """
    progress(0.1, "emitting")
    content = model.read_bytes()
    if plan is not None:
        content = _EMITTERS[format](content, Plan.from_json(plan.read_text()))
    if layouts is not None and (found := json.loads(layouts.read_text())):
        metadata = {**metadata, package.LAYOUTS: found}
    path = out / f"model.{format}"
    path.write_bytes(package.embed(content, format, metadata))
    progress(0.8, "running it once")
    actual = reference_of(path, format, arrays.load(inputs))
    parity = compare(arrays.load(reference), actual, _ANY_ERROR)
    if not parity.passed:
        raise UnsupportedError(f"The {precision} file does not give the model's outputs: {parity.problem}.")
    stored: dict[str, Any] = {}
    if sparse and format == "tflite":
        stored["sparse"] = _without_zeros(path, metadata, arrays.load(inputs), actual)
    if gz:
        stored["gz_bytes"] = len(gzip.compress(path.read_bytes(), mtime=0))
    arrays.save(out / "expected.npz", {name: array[:1] for name, array in actual.items()})
    ins, outs = package.tensor_specs(path, format)
    artifact = Artifact(path, format, precision, ins, outs, digest(path), path.stat().st_size)
    manifest = package.model_json(artifact, labels=metadata.get("labels", ()), preprocess=metadata.get("preprocess"))
    (out / MANIFEST).write_text(json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    return {
        "sha256": artifact.sha256,
        "size_bytes": artifact.size_bytes,
        "output_error": float(parity.max_error),
        **stored,
    }


def _without_zeros(path: Path, metadata: Mapping[str, Any], inputs: Arrays, expected: Arrays) -> dict[str, Any]:
    """Replace a .tflite by the same with sparse weights, if LiteRT then gives exactly ``expected``.

    Returns how many weights are sparse and the size before; ``note`` says why none is.
    """
    facts = {"weights": 0, "dense_bytes": path.stat().st_size, "note": ""}
    content, names = tflite_sparse.encode(path.read_bytes())
    if not names:
        return facts | {"note": "no weight of this file is smaller without its zeros"}
    trial = path.with_name("sparse.tflite")
    trial.write_bytes(package.embed(content, "tflite", metadata))
    try:
        found = reference_of(trial, "tflite", inputs)
    except StageError as error:
        trial.unlink()
        return facts | {"note": f"stored dense: LiteRT refuses its sparse form: {error.message.splitlines()[-1]}"}
    if any(found[name].tobytes() != expected[name].tobytes() for name in expected):
        trial.unlink()
        return facts | {"note": "stored dense: LiteRT computes other bits from its sparse form"}
    trial.replace(path)
    return facts | {"weights": len(names)}


def reference_of(path: Path, format: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Run a file in its own runtime, one sample at a time; (N, ...) per name in and out.

    Raises StageError, in the runtime's words, for a sample that it does not take.
    """
    session = open_model(path, format)
    count = len(next(iter(inputs.values())))
    parts = []
    for i in range(count):
        try:
            parts.append(session.run([inputs[spec["name"]][i : i + 1] for spec in session.inputs]))
        except Exception as error:  # onnxruntime's own errors share no base class
            raise StageError(
                f"{path.name} does not run on sample {i + 1}: {str(error).strip().splitlines()[0]}",
                "Check the samples' types and values: a number outside the vocabulary, for example.",
            ) from error
    return {
        spec["name"]: np.concatenate([np.atleast_1d(part[position]) for part in parts])
        for position, spec in enumerate(session.outputs)
    }
