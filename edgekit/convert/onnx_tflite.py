"""The convert stage from ONNX to TFLite: the float file, its layouts, and the proof that it computes the same."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from ai_edge_litert.tools import flatbuffer_utils

from edgekit import arrays
from edgekit.convert import onnx_converter, onnx_layout, onnx_outputs, onnx_plain_names
from edgekit.convert.finish import reference_of
from edgekit.convert.hand_off import save
from edgekit.convert.onnx_converter import Converted
from edgekit.convert.onnx_difference import first_difference
from edgekit.convert.onnx_file import serialize
from edgekit.convert.onnx_fusions import pad_instead_of_zeros
from edgekit.convert.parity import Parity, compare
from edgekit.convert.tflite_products import connect
from edgekit.errors import StageError, UnsupportedError
from edgekit.progress import Progress
from edgekit.runtimes import open_model
from edgekit.source.tflite_file import custom_names, read_model

Arrays = dict[str, npt.NDArray[Any]]

LAYOUTS = "layouts.json"
_RANDOM_SAMPLES, _SEED = 4, 0
_INSTEAD = "Give the Keras model or a SavedModel, or choose targets that take ONNX."


def run(*, out: Path, progress: Progress, model: Path, inputs: Path, tolerance: float) -> dict[str, Any]:
    """Write ``model.tflite`` of an .onnx with batch 1, and what it has to compute, in its own layouts.

    ``inputs``: (N, ...) per name as the .onnx takes them. Images become NHWC, which ``layouts.json`` names; outputs
    keep their layouts, names and order. Raises UnsupportedError where TFLite has no form of an op, or where the file
    differs from ONNX Runtime by more than ``tolerance`` on those inputs or on random ones like them.
    """
    progress(0.1, "converting ONNX to TFLite")
    proto = onnx.load(str(model))
    images = onnx_layout.images(proto)
    pad_instead_of_zeros(proto)
    names, results = onnx_plain_names.rename(proto)
    path = out / "model.tflite"
    with tempfile.TemporaryDirectory(dir=out) as folder:
        renamed = Path(folder) / "model.onnx"
        renamed.write_bytes(serialize(proto))
        made = onnx_converter.convert(
            renamed, [plain for plain, name in names.items() if name not in images], renamed.parent
        )
        objects = _write(made, path, names, results)
    _refuse_custom(made, path)
    given = arrays.load(inputs)
    progress(0.6, "comparing with ONNX Runtime")
    expected = reference_of(model, "onnx", given)
    if orders := onnx_outputs.turned(expected, _answers(path, in_layout(given, images))):
        onnx_outputs.turn(objects, orders)
        path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(objects)))
    errors = [_proved(made, model, path, images, given, expected, tolerance, "calibration samples")]
    random = like(given, _RANDOM_SAMPLES)
    wanted = reference_of(model, "onnx", random)
    if all(np.isfinite(array.astype(np.float64)).all() for array in wanted.values()):
        errors.append(_proved(made, model, path, images, random, wanted, tolerance, "random inputs"))
    save(out, in_layout(given, images), expected)
    layouts = {name: ["NCHW", "NHWC"] for name in images}
    (out / LAYOUTS).write_text(json.dumps(layouts, sort_keys=True) + "\n")
    return {"warnings": [], "parameters": None, "parity_error": max(errors), "layouts": layouts}


def in_layout(arrays: Arrays, images: dict[str, onnx_layout.Shape]) -> Arrays:
    """Return (N, C, H, W) arrays of ``images`` as (N, H, W, C), the others as they are."""
    return {
        name: np.ascontiguousarray(array.transpose(onnx_layout.TO_NHWC)) if name in images else array
        for name, array in arrays.items()
    }


def like(given: Arrays, samples: int) -> Arrays:
    """Return random inputs, each between the least and the largest number of ``given``, (samples, ...) per name."""
    random = np.random.default_rng(_SEED)
    found = {}
    for name, array in given.items():
        shape, low, high = (samples, *array.shape[1:]), array.min(), array.max()
        if array.dtype.kind == "f":
            found[name] = random.uniform(low, high, shape).astype(array.dtype)
        else:  # token ids: no others are known to be allowed
            found[name] = random.integers(int(low), int(high), shape, endpoint=True).astype(array.dtype)
    return found


def _proved(
    made: Converted, model: Path, path: Path, images: dict[str, onnx_layout.Shape], given: Arrays, expected: Arrays,
    tolerance: float, what: str,
) -> float:  # fmt: skip
    fed = in_layout(given, images)
    parity = compare(expected, reference_of(path, "tflite", fed), tolerance)
    if parity.passed:
        return float(parity.max_error)
    raise UnsupportedError(
        f"Converted to TFLite, the network computes something else on {what}: {parity.problem}.{_where(parity)}"
        f"{first_difference(model, path, given, fed, made.correspondence, tolerance)}",
        f"Nothing was made of it. {_INSTEAD}",
    )


def _where(parity: Parity) -> str:
    same = sum(error <= parity.tolerance for error in parity.errors.values())
    return f" {same} of {len(parity.errors)} outputs agree." if len(parity.errors) > 1 else ""


def _refuse_custom(made: Converted, path: Path) -> None:
    """Refuse ops that the converter only passed through under a name of its own."""
    custom = made.custom or custom_names(read_model(path))
    if custom:
        raise UnsupportedError(
            f"TFLite has no form of {', '.join(custom)}.", "Replace it in the model, or choose targets that take ONNX."
        )
    try:
        open_model(path, "tflite")
    except StageError as error:
        raise UnsupportedError(f"LiteRT refuses what the network became: {error.message}", _INSTEAD) from error


def _answers(path: Path, fed: Arrays) -> Arrays:
    try:
        return reference_of(path, "tflite", fed)
    except (RuntimeError, ValueError) as error:  # the runtime's own: a file that loads and does not run
        lost = onnx_outputs.unmade(read_model(path))
        what = f"it lost what computes {lost!r}" if lost else f"LiteRT says: {error}"
        raise UnsupportedError(f"The converter made a file that does not run: {what}.", _INSTEAD) from error


def _write(made: Converted, path: Path, inputs: dict[str, str], outputs: dict[str, str]) -> Any:
    """Write the file with ONNX's inputs and outputs, by name and in order; returns it as objects."""
    model = read_model(made.path)
    if lost := onnx_outputs.sign(model, inputs, outputs):
        raise StageError(f"The ONNX to TFLite converter lost the tensor {lost!r}.", _INSTEAD)
    connect(model)
    model.description = b"edgekit"
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    return model
