"""The shell of a SavedModel, written without TensorFlow: signatures and an op, no weights."""

from __future__ import annotations

from pathlib import Path

from edgekit.source.saved_model import message

FLOAT, STRING, INT32 = 1, 7, 3  # TensorFlow's numbers of its types
Inputs = dict[str, tuple[int, list[int] | None]]


def saved_model(folder: Path, signatures: dict[str, Inputs], op: str = "Conv2D") -> Path:
    """Write a SavedModel's shell: signatures of inputs (dtype number, sizes), one op, empty variables."""
    (folder / "variables").mkdir(parents=True)
    for name in ("variables.index", "variables.data-00000-of-00001"):
        (folder / "variables" / name).write_bytes(b"x")
    model = message("SavedModel")
    meta = model.meta_graph.add()
    meta.graph.library.function.add().node.add(name="inner", op=op)
    for name, inputs in signatures.items():
        for key, (dtype, sizes) in inputs.items():
            tensor = meta.signature[name].inputs[key]
            tensor.dtype = dtype
            tensor.tensor_shape.unknown_rank = sizes is None
            for size in sizes or ():
                tensor.tensor_shape.dim.add(size=size)
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    return folder
