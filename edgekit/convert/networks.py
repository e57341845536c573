"""Float files of many Keras networks at once: what the accuracy-latency curve of pruning is measured on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from edgekit import arrays, keras_io
from edgekit.convert import float_graph, onnx, tflite
from edgekit.convert.hand_off import check_parity
from edgekit.progress import Progress

_CONVERTERS = {"tflite": tflite.float32, "onnx": onnx.float32}
FILES = "files"


def run(
    *, out: Path, progress: Progress, networks: Path, inputs: Path, format: str, tolerance: float
) -> dict[str, Any]:
    """Write ``files/NAME.tflite`` (or ``.onnx``) for each ``NAME.keras`` in ``networks``; each computes what it did.

    ``inputs``: (N, ...) per input name. Raises StageError where a file computes something else.
    """
    found = sorted(networks.glob("*.keras"))
    given = arrays.load(inputs)
    (out / FILES).mkdir()
    for number, file in enumerate(found):
        progress(number / len(found), f"converting {file.stem}")
        network = keras_io.load(file)
        path = out / FILES / f"{file.stem}.{format}"
        with tempfile.TemporaryDirectory(dir=out) as folder:
            saved = Path(folder) / "saved_model"
            float_graph.export_keras(network, saved)
            path.write_bytes(_CONVERTERS[format](saved))
        check_parity(path, format, given, float_graph.reference(network, given), tolerance, path.name)
    return {"names": [file.stem for file in found]}
