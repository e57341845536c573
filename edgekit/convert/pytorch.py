"""Write a PyTorch program as ONNX. The only module that imports torch, which is an extra of the installation."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from edgekit.convert.hand_off import check_parity
from edgekit.errors import UnsupportedError
from edgekit.progress import Progress
from edgekit.runtimes import open_model
from edgekit.runtimes.agent import synthetic_inputs
from edgekit.source.pytorch_file import disarm

OPSET = 18  # the oldest that torch's exporter writes of its own; Keras models become 17, for TensorRT 8
_TOLERANCE = 1e-4


def run(*, out: Path, progress: Progress, model: Path) -> dict[str, Any]:
    """Write ``model.onnx``, weights inside, that computes what the program does; open sizes stay open.

    The program is loaded from a copy without sample inputs and guards: nothing in it is run but its operators. Raises
    UnsupportedError for operators that ONNX does not have.
    """
    progress(0.1, "loading the PyTorch program")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        copy = Path(folder, "model.pt2")
        disarm(model, copy)
        try:
            program = torch.export.load(str(copy))
            progress(0.4, "exporting to ONNX")
            exported = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
        except MemoryError:
            raise
        except Exception as error:  # torch's exporter raises whatever its passes meet
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise UnsupportedError(
                f"{model.name} cannot be written as ONNX: {reason[:200]}",
                "Replace these operations in the model, or export it to ONNX yourself and give that.",
            ) from error
    proto = exported.model_proto
    path = out / "model.onnx"
    onnx.save(proto, path)
    progress(0.8, "comparing with PyTorch")
    wanted = open_model(path, "onnx").inputs
    fed = synthetic_inputs(_sized(wanted), 0)
    with torch.no_grad():
        results = program.module()(*(torch.from_numpy(array) for array in fed))
    flat = torch.utils._pytree.tree_leaves(results)
    names = [value.name for value in proto.graph.output]
    expected = {name: np.atleast_1d(tensor.numpy()) for name, tensor in zip(names, flat, strict=True)}
    inputs = {tensor["name"]: array for tensor, array in zip(wanted, fed, strict=True)}
    return {"parity_error": check_parity(path, "onnx", inputs, expected, _TOLERANCE, "ONNX")}


def _sized(wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give open sizes a number to be compared at: 1 for the batch, else one that survives a few halvings."""
    return [
        {**tensor, "shape": [size if size > 0 else 64 if axis else 1 for axis, size in enumerate(tensor["shape"])]}
        for tensor in wanted
    ]
